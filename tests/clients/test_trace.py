"""`/debug/trace` and `pie trace`: what a recording says, read with the messages of Perfetto's own package.

The server has two models, so that each pass has an engine to be computed by and one that it must not touch. What is
compared are sums and orders, not times.
"""

import json
import subprocess
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import requests
from conftest import PATIENCE_S, model_file
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

MODELS = ["one", "two"]
SECONDS = 4
# Long enough for pages of the prefix cache.
PROMPT = "Tell me a story about a fox and a hen who share a house at the edge of a wide forest. " * 3
# More than the seconds of a recording have room for.
ENDLESS_TOKENS = 8000


@dataclass
class Slice:
    track: int
    name: str
    begin: int
    end: int = 0
    arguments: dict = field(default_factory=dict)
    flows: set = field(default_factory=set)
    # Flows that end in a mark within it.
    ended_flows: set = field(default_factory=set)


class Recording:
    """Tracks by their numbers, slices, and values of counters."""

    def __init__(self, data):
        trace = perfetto.Trace()
        trace.ParseFromString(data)
        self.tracks, self.slices, self.counters = {}, [], defaultdict(list)
        open_slices, last = defaultdict(list), 0
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id, "each packet is of a sequence"
            if packet.HasField("track_descriptor"):
                track = packet.track_descriptor
                assert track.uuid not in self.tracks, f"track {track.uuid} is there twice"
                self.tracks[track.uuid] = track
            if not packet.HasField("track_event"):
                continue
            event, at = packet.track_event, packet.timestamp
            assert at >= last, "events are in the order of time"
            last = at
            assert event.track_uuid in self.tracks, "a track is described before its events"
            stack = open_slices[event.track_uuid]
            if event.type == perfetto.TrackEvent.TYPE_SLICE_BEGIN:
                arguments = {a.name: a.string_value or a.uint_value for a in event.debug_annotations}
                stack.append(Slice(event.track_uuid, event.name, at, 0, arguments, set(event.flow_ids)))
            elif event.type == perfetto.TrackEvent.TYPE_SLICE_END:
                stack[-1].end = at
                self.slices.append(stack.pop())
            elif event.type == perfetto.TrackEvent.TYPE_INSTANT:
                stack[-1].ended_flows |= set(event.terminating_flow_ids)
            else:
                assert event.type == perfetto.TrackEvent.TYPE_COUNTER
                self.counters[event.track_uuid].append((at, event.counter_value))
        assert not any(open_slices.values()), "every slice ends"

    def group(self, track):
        """The name of the group that a track is of, such as `engine one`."""
        while self.tracks[track].HasField("parent_uuid"):
            track = self.tracks[track].parent_uuid
        return self.tracks[track].process.process_name

    def of_group(self, track):
        while self.tracks[track].HasField("parent_uuid"):
            track = self.tracks[track].parent_uuid
        return track

    def on(self, name):
        """The slices of all tracks of this name, those within others aside where the name says so."""
        return [one for one in self.slices if self.tracks[one.track].name == name]

    def passes(self):
        return [one for one in self.on("calls") if one.name == "forward.execute"]

    def batches(self):
        return [one for one in self.on("batches") if one.name == "batch"]


def rows_of_passes(batch):
    """The rows of each pass in a batch, by its ticket."""
    pairs = (pair.split(":") for pair in batch.arguments["passes"].split())
    return {int(ticket): int(rows) for ticket, rows in pairs}


@pytest.fixture(scope="module")
def two(pie, tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "pie.toml"
    backends = (f"[[backend]]\nmodel = {json.dumps(str(model_file()))}\nname = '{name}'\nmax_num_kv_pages = 700\n" for name in MODELS)
    config.write_text("\n".join(backends))
    with pie.serving("--config", str(config)) as url:
        yield url


def chat(url, model, **more):
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12, **more}
    answer = requests.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def recording(two):
    """A recording of streams on both models, one of which began before it and goes on after it."""
    stop = threading.Event()

    def work(model):
        while not stop.is_set():
            chat(two, model, seed=1)
            chat(two, model, n=2, temperature=0.8)

    endless = {"model": "one", "prompt": "Hi", "max_tokens": ENDLESS_TOKENS, "ignore_eos": True, "stream": True}
    with requests.post(f"{two}/v1/completions", json=endless, stream=True, timeout=PATIENCE_S) as stream:
        # Held, or the collector of garbage closes the connection.
        lines = stream.iter_lines()
        assert next(lines)
        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(work, model) for model in MODELS * 2]
            try:
                answer = requests.get(f"{two}/debug/trace?seconds={SECONDS}", timeout=PATIENCE_S)
            finally:
                stop.set()
            for worker in workers:
                worker.result()
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert int(answer.headers["x-pie-trace-events"]) > 100 and answer.headers["x-pie-trace-dropped"] == "0"
    return Recording(answer.content)


def test_each_inferlet_and_each_engine_has_its_tracks(recording):
    groups = {track.process.process_name for track in recording.tracks.values() if track.HasField("process")}
    assert {"pie", *(f"engine {model}" for model in MODELS)} <= groups
    assert any(group.startswith("api-chat ") for group in groups)
    [about] = recording.on("recording")
    assert about.arguments["dropped"] == 0 and about.arguments["events"] > 100
    lengths = about.end - about.begin
    assert SECONDS * 0.9e9 < lengths < SECONDS * 3e9, "timestamps are nanoseconds"
    pids = [track.process.pid for track in recording.tracks.values() if track.HasField("process")]
    assert len(set(pids)) == len(pids) and all(pid > 0 for pid in pids)


def test_calls_lie_within_the_life_of_their_inferlet_and_beside_each_other(recording):
    lives = {recording.of_group(life.track): life for life in recording.on("life")}
    assert len(lives) == len(recording.on("life")), "one life each"
    [about] = recording.on("recording")
    by_track = defaultdict(list)
    for call in recording.on("calls"):
        life = lives[recording.of_group(call.track)]
        assert life.begin <= call.begin <= call.end <= life.end, (life, call)
        by_track[call.track].append(call)
    for life in lives.values():
        assert about.begin <= life.begin <= life.end <= about.end
    for calls in by_track.values():
        calls.sort(key=lambda call: call.begin)
        assert all(one.end <= next_one.begin for one, next_one in zip(calls, calls[1:], strict=False)), calls
    names = {call.name for call in recording.on("calls")}
    assert {"forward.execute", "model.encode-chat", "context.create"} <= names, names
    [endless] = [life for life in lives.values() if life.name == "api-completions"]
    assert (endless.begin, endless.end) == (about.begin, about.end) and endless.arguments["ran_before_ms"] > 0


def test_each_pass_flows_through_batches_of_its_own_engine_and_back(recording):
    passes = recording.passes()
    by_ticket = defaultdict(list)
    for batch in recording.batches():
        assert set(rows_of_passes(batch)) == batch.flows
        for ticket in batch.flows:
            by_ticket[ticket].append(batch)
    done = [one for one in passes if one.ended_flows]
    assert len(done) > 50 and len(passes) - len(done) <= 10, "few are under way when a recording ends"
    engines = set()
    for one in done:
        ticket = one.arguments["ticket"]
        assert one.flows == one.ended_flows == {ticket}
        assert by_ticket[ticket], f"pass {ticket} was computed by nobody"
        for batch in by_ticket[ticket]:
            assert recording.group(batch.track) == f"engine {one.arguments['model']}"
            assert one.begin <= batch.begin and batch.end <= one.end
        engines.add(one.arguments["model"])
    assert engines == set(MODELS)


def test_the_rows_of_batches_add_up_to_what_the_calls_asked(recording):
    computed = defaultdict(int)
    for batch in recording.batches():
        rows = rows_of_passes(batch)
        assert sum(rows.values()) == batch.arguments["rows"] > 0
        assert len(rows) == batch.arguments["sequences"]
        for ticket, count in rows.items():
            computed[ticket] += count
    cached = 0
    for one in recording.passes():
        if one.ended_flows:
            asked = one.arguments["rows"] - one.arguments["cached"]
            assert computed[one.arguments["ticket"]] == asked == one.arguments["computed"] > 0, one
            cached += one.arguments["cached"]
    assert cached > 0, "the same prompt again comes from the cache"
    assert sum(batch.arguments["cached"] for batch in recording.batches()) >= cached


def test_parts_of_a_batch_lie_within_it(recording):
    batches = sorted(recording.batches(), key=lambda batch: batch.begin)
    parts = [one for one in recording.on("batches") if one.name != "batch"]
    assert {"compute"} <= {part.name for part in parts} <= {"compute", "page moves"}
    for part in parts:
        around = [b for b in batches if b.track == part.track and b.begin <= part.begin and part.end <= b.end]
        assert around, part
        moves = around[0].arguments
        assert part.name == "compute" or moves["copies"] + moves["spills"] + moves["restores"] > 0


def test_counters_are_those_of_the_pool(recording):
    for model in MODELS:
        counters = {
            recording.tracks[track].name: dict(values)
            for track, values in recording.counters.items()
            if recording.group(track) == f"engine {model}"
        }
        pages = [counters[f"pages {kind}"] for kind in ("free", "cached", "held")]
        assert len(pages[0]) > 10
        for at in pages[0]:
            values = [kind[at] for kind in pages]
            assert sum(values) == 700 and min(values) >= 0, values
        assert min(counters["pages spilled"].values()) >= 0
        assert max(counters["passes running"].values()) >= 1 and min(counters["passes waiting"].values()) == 0


def test_there_is_one_recording_at_a_time_and_the_next_one_works(two):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(requests.get, f"{two}/debug/trace?seconds=2", timeout=PATIENCE_S)
        status = None
        while not first.done() and status != 409:
            second = requests.get(f"{two}/debug/trace?seconds=1", timeout=PATIENCE_S)
            status = second.status_code
            if status == 200:
                # It came before the first.
                first = pool.submit(requests.get, f"{two}/debug/trace?seconds=2", timeout=PATIENCE_S)
        assert status == 409 and "one at a time" in second.json()["error"]["message"]
        assert first.result().status_code == 200
    # A client that leaves gives its recording up, and its place.
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{two}/debug/trace?seconds=60", timeout=0.5)
    deadline = time.monotonic() + 10
    while requests.get(f"{two}/debug/trace?seconds=1", timeout=PATIENCE_S).status_code != 200:
        assert time.monotonic() < deadline, "a recording of a client that left goes on"


@pytest.mark.parametrize(
    ("query", "said"),
    [("seconds=0", "expected a number from 1 to 60"), ("seconds=x", "`seconds` is `x`"), ("second=1", "expected `seconds`")],
)
def test_a_wrong_query_is_refused_in_words(two, query, said):
    answer = requests.get(f"{two}/debug/trace?{query}", timeout=PATIENCE_S)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and said in error["message"]


def test_the_command_writes_a_file_that_is_a_recording(pie, two, tmp_path):
    out = tmp_path / "pie.pftrace"
    said = pie.run("trace", "--server", two, "--seconds", "1", "--out", str(out), "--key", "any")
    assert str(out) in said and "ui.perfetto.dev" in said
    assert len(Recording(out.read_bytes()).on("recording")) == 1
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--server", "http://127.0.0.1:9"], ["http://127.0.0.1:9", "is `pie serve` running"]),
        (["--server", "127.0.0.1"], ["expected an address as `http://127.0.0.1:8080`"]),
        (["--seconds", "61"], ["61", "1..=60"]),
        (["--out", "/no/such/folder/x"], ["/no/such/folder/x"]),
        (["--server", "URL/v1"], ["404", "without a path"]),
    ],
)
def test_the_command_says_what_is_wrong_and_leaves_no_file(pie, two, tmp_path, arguments, said):
    arguments = [argument.replace("URL", two) for argument in arguments]
    command = [pie.binary, "trace", *arguments]
    done = subprocess.run(command, env=pie.environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode != 0
    assert all(words in done.stderr for words in said), done.stderr
    assert not list(tmp_path.iterdir())
