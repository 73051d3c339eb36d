"""`pie_client` against `pie serve`: large programs, many inferlets at once, the artifact's workloads, faults, keys."""

import asyncio
import itertools
import json
import random
import ssl
import time

import pytest
import trustme
from conftest import ROOT, Pie, asynchronous, model_file, needs_sessions
from cutting_proxy import Cut, CuttingProxy, cut_at, cut_every
from pie_client import (
    AuthenticationError,
    ConnectionLost,
    InferletFailed,
    PieClient,
    RequestError,
    program_hash,
    sync,
)

pytestmark = needs_sessions
INFERLETS = ROOT / "inferlets/target/wasm32-wasip2/release"
TEST_PROGRAMS = ROOT / "tests/programs/target/wasm32-wasip2/release/test_programs.wasm"


@pytest.fixture(scope="module")
def url(pie):
    """A server on which nobody else leaves anything: what is left is counted here."""
    with pie.serving(model=model_file()) as address:
        yield address


def enlarged(program, size):
    """A component with a custom section behind it that makes it this large and different from all others."""
    rest = size - len(program) - 16
    content = b"\x07padding" + random.Random(rest).randbytes(rest)
    return program + b"\0" + leb128(len(content)) + content


def leb128(number):
    low, number = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + leb128(number) if number else bytes([low])


async def nothing_runs(client):
    """Waits until no inferlet of the user is left, and none of its events."""
    while await client.list_instances():
        await asyncio.sleep(0.02)
    usage = await client.usage()
    assert usage.inferlets.used == 0 and usage.event_bytes.used == 0, usage


@asynchronous
async def test_a_program_of_20_mb_is_uploaded_with_progress_and_runs(url):
    program = enlarged((INFERLETS / "bench_spawn.wasm").read_bytes(), 20_000_000)
    async with PieClient(url) as client:
        seen = []
        name = await client.upload_program(program, lambda sent, total: seen.append((sent, total)))
        assert name == program_hash(program)
        assert seen[0] == (0, len(program)) and seen[-1] == (len(program), len(program))
        assert seen == sorted(seen) and len(seen) >= len(program) // client.welcome.limits.chunk_bytes
        assert await client.run(name) == ""
        assert name in [listed.hash for listed in await client.list_programs()]
        await client.remove_program(name)
        assert not await client.program_exists(name)
        with pytest.raises(RequestError) as refused:
            await client.launch_instance(name)
        assert refused.value.code == "unknown-program"


@asynchronous
async def test_a_broken_program_leaves_nothing(url):
    good = (INFERLETS / "bench_spawn.wasm").read_bytes()
    async with PieClient(url) as client:
        before = (await client.usage()).program_bytes.used
        for program in (b"no program at all", good[: len(good) // 2], b"\0asm\x01\0\0\0"):
            with pytest.raises(RequestError) as refused:
                await client.upload_program(program)
            assert refused.value.code == "invalid-program"
            assert not await client.program_exists(program_hash(program))
        assert (await client.usage()).program_bytes.used == before


@asynchronous
async def test_a_name_stands_for_one_program(url):
    async with PieClient(url) as client:
        programs = [enlarged((INFERLETS / "bench_spawn.wasm").read_bytes(), 300_000 + extra) for extra in (0, 1)]
        first, second = [await client.upload_program(program) for program in programs]
        await client.install_program(first, "nothing@1.0.0")
        await client.install_program(first, "nothing@1.0.0")
        with pytest.raises(RequestError) as refused:
            await client.install_program(second, "nothing@1.0.0")
        assert refused.value.code == "name-taken"
        assert await client.run("nothing@1.0.0") == await client.run("nothing") == ""
        names = {listed.name: listed.hash for listed in await client.list_programs()}
        assert names["nothing@1.0.0"] == first and "text-completion" in names
        for program in (first, second):
            await client.remove_program(program)
        assert "nothing@1.0.0" not in [listed.name for listed in await client.list_programs()]


@asynchronous
async def test_256_programs_are_launched_at_once_from_one_process(url):
    async with PieClient(url) as client:
        program = await client.upload_program(TEST_PROGRAMS)
        results = await asyncio.gather(*(client.run(program, ["hello", str(number)]) for number in range(256)))
        assert results == [f"hello {number}" for number in range(256)]
        await nothing_runs(client)


@asynchronous
async def test_256_programs_that_wait_are_talked_with_at_once(url):
    async with PieClient(url) as client:
        program = await client.upload_program(TEST_PROGRAMS)

        async def talk(number):
            async with await client.launch_instance(program, ["echo"]) as instance:
                await instance.send(f"to {number}")
                together.append((await instance.recv()).text)
                while len(together) < 256:
                    await asyncio.sleep(0.01)
                # All of them run at this moment.
                await instance.terminate()
                return [event.kind async for event in instance][-1]

        together = []
        assert set(await asyncio.gather(*map(talk, range(256)))) == {"terminated"}
        assert sorted(together) == sorted(f"to {number}" for number in range(256))
        await nothing_runs(client)


async def benchmark(address, program, arguments, instances):
    """The benchmark scripts of the paper's artifact, with their own calls: the texts of each instance."""
    async with PieClient(address) as client:
        await client.authenticate("benchmark")
        wasm = (INFERLETS / f"{program}.wasm").read_bytes()
        hash = program_hash(wasm)
        if not await client.program_exists(hash):
            await client.upload_program(wasm)
        start = time.monotonic()

        async def run(number):
            instance = await client.launch_instance(hash, arguments=arguments(number))
            texts = []
            while True:
                event, message = await instance.recv()
                if event == "terminated":
                    return texts, message
                if event in ("message", "result"):
                    texts.append(message)

        done = await asyncio.gather(*map(run, range(instances)))
        elapsed = time.monotonic() - start
        print(f"{program}: {1000 * elapsed:.2f} milliseconds, {instances / elapsed:.2f} requests/second")
        await nothing_runs(client)
    assert {reason for _, reason in done} == {"finished"}
    return [texts for texts, _ in done]


@asynchronous
async def test_the_artifacts_text_completion_runs_128_times(url):
    def arguments(number):
        prompt = f"Tell me about the number {number % 64}"
        return ["--prompt", prompt, "--max-tokens", "4", "--output"]

    answers = await benchmark(url, "text_completion", arguments, 128)
    results = [texts[-1] for texts in answers]
    assert all(results) and results[:64] == results[64:], "equal prompts have equal greedy answers"
    assert all("".join(texts).startswith(texts[-1]) for texts in answers), "what is streamed is what is returned"


@asynchronous
async def test_the_artifacts_react_agent_runs_32_times(url):
    arguments = ["--tokens-between", "2", "--delay", "5", "--concurrent-calls"]
    answers = await benchmark(url, "agent_react_bench", lambda _: arguments, 32)
    reports = [json.loads(texts[-1]) for texts in answers]
    assert [(report["calls"], report["waits"]) for report in reports] == [(6, 2)] * 32


SAID = ["one", "two", "three", "four", "end", b"\0blob\xff"]
HEARD = [
    *[("message", text) for text in SAID[:4]],
    ("blob", SAID[5]),
    ("stdout", "to stdout\n"),
    ("stderr", "to stderr\n"),
    ("result", ""),
    ("terminated", "finished"),
]


async def converse(client, program):
    """Launches, talks, and hears all of it."""
    instance = await client.launch_instance(program, ["echo"])
    for message in SAID:
        await instance.send(message)
    assert [(str(kind), value) async for kind, value in instance] == HEARD


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.WITHIN, Cut.AFTER])
@asynchronous
async def test_a_connection_may_be_cut_at_any_message(url, cut):
    async with PieClient(url) as watching:
        program = await watching.upload_program(TEST_PROGRAMS)
        for frame in itertools.count():
            async with CuttingProxy(url, cut_at(frame, cut)).running() as proxy:
                try:
                    async with PieClient(proxy.url) as client:
                        await converse(client, program)
                        await client.list_instances()
                        await nothing_runs(client)
                except ConnectionLost:
                    assert frame < 2, f"cut at frame {frame}"
                if proxy.frames <= frame:
                    break
        await nothing_runs(watching)
    assert frame >= 25, "every message of the conversation was cut at"


@asynchronous
async def test_five_hundred_reconnects_lose_nothing_and_leave_nothing(url):
    cuts = cut_every(14, Cut.BEFORE, Cut.AFTER, Cut.WITHIN)
    async with PieClient(url) as watching:
        program = await watching.upload_program(TEST_PROGRAMS)
        async with CuttingProxy(url, cuts).running() as proxy, PieClient(proxy.url) as client:
            session = client.welcome.session
            while proxy.connections < 500:
                await converse(client, program)
            assert client.welcome.session == session
        await nothing_runs(watching)


@asynchronous
async def test_a_client_that_never_reads_holds_a_log_and_no_more(url):
    async with PieClient(url) as client:
        program = await client.upload_program(TEST_PROGRAMS)
        async with await client.launch_instance(program, ["flood"]) as flood:
            held = -1
            while held < (held := (await client.usage()).event_bytes.used) or not held:
                await asyncio.sleep(0.2)
            waiting = [len(event.value) for _, event in flood._inbox._events]
            assert 0 < sum(waiting) <= held <= 1 << 20
            # The program goes on when something is read, and others are not held up meanwhile.
            for _ in range(10 * len(waiting)):
                assert (await flood.recv()).text == "x" * (1 << 16)
            assert await client.run(program, ["hello", "beside"]) == "hello beside"
        await nothing_runs(client)


@asynchronous
async def test_an_inferlet_goes_on_without_its_client_and_another_takes_over(url):
    async with PieClient(url) as client:
        program = await client.upload_program(TEST_PROGRAMS)
        id = await client.launch_detached(program, ["echo"])
        await client.signal_instance(id, "while nobody listens")
    async with PieClient(url) as client:
        (listed,) = [listed for listed in await client.list_instances() if listed.id == id]
        assert listed.state == "running" and listed.clients == 0
        instance = await client.attach_instance(id[:18])
        assert instance.instance_id == id
        assert (await instance.recv()).text == "while nobody listens"
        await instance.terminate()
        with pytest.raises(InferletFailed) as failed:
            await instance.result()
        assert failed.value.code == "killed"
        await nothing_runs(client)
        with pytest.raises(RequestError) as refused:
            await client.attach_instance(id)
        assert refused.value.code == "unknown-inferlet"


@asynchronous
async def test_how_a_program_ends_is_said(url):
    async with PieClient(url) as client:
        program = await client.upload_program(TEST_PROGRAMS)
        for case, code in (("fail", "program-failed"), ("panic", "trapped"), ("allocate", "memory-limit")):
            with pytest.raises(InferletFailed) as failed:
                await client.run(program, [case])
            assert failed.value.code == code, failed.value
        async with await client.launch_instance(program, ["spin"]) as spinning:
            await client.terminate_instance(spinning.instance_id)
            assert [event.kind async for event in spinning] == ["error", "terminated"]
        await nothing_runs(client)


def test_users_do_not_see_each_other_and_keys_are_asked_for(pie):
    keys = [pie.add_key("--user", user, user) for user in ("ann", "bob")]
    with pie.serving(model=model_file(), keys=True) as url:
        with pytest.raises(AuthenticationError), sync.PieClient(url, key="sk-pie-wrong"):
            pass
        with sync.PieClient(url, key=keys[0]) as ann, sync.PieClient(url) as bob:
            with pytest.raises(AuthenticationError, match="needs a key"):
                bob.list_instances()
            bob.authenticate(keys[1])
            assert (ann.welcome.user, bob.welcome.user) == ("ann", "bob")
            program = ann.upload_program(TEST_PROGRAMS)
            assert ann.program_exists(program) and not bob.program_exists(program)
            with ann.launch_instance(program, ["echo"]) as instance:
                assert [listed.id for listed in ann.list_instances()] == [instance.instance_id]
                assert bob.list_instances() == []
                for ask in (bob.attach_instance, bob.terminate_instance):
                    with pytest.raises(RequestError) as refused:
                        ask(instance.instance_id)
                    assert refused.value.code == "unknown-inferlet"
            for ask in (bob.stats, lambda: bob.launch_instance(program)):
                with pytest.raises(RequestError) as refused:
                    ask()
                assert refused.value.code in ("forbidden", "unknown-program")


def test_a_session_is_encrypted_where_the_server_has_a_certificate(tmp_path):
    authority, home = trustme.CA(), Pie(tmp_path / "home")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    for at, part in enumerate(made.cert_chain_pems):
        part.write_to_path(str(tmp_path / "server.pem"), append=at > 0)
    config = tmp_path / "config.toml"
    config.write_text(f"[tls]\ncertificate = '{tmp_path}/server.pem'\nkey = '{tmp_path}/server.key'\n")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with home.serving("--config", str(config), model=model_file(), scheme="https") as url:
        with sync.PieClient(url, tls=trusted) as client:
            assert client.run("bench-spawn") == ""
        with pytest.raises(ConnectionLost, match="certificate"), sync.PieClient(url):
            pass


def test_a_server_that_dies_is_said_and_keeps_what_was_uploaded(pie):
    with pie.serving_until_stopped(model=model_file()) as server:
        with sync.PieClient(server.url, reconnect_s=0.5) as client:
            program = client.upload_program(TEST_PROGRAMS)
            instance = client.launch_instance(program, ["echo"])
            server.process.kill()
            server.process.wait()
            with pytest.raises(ConnectionLost, match="no server at .*tried for 0.5 s"):
                instance.result()
            with pytest.raises(ConnectionLost, match="no server at"):
                client.list_instances()
    # What was uploaded is there when the server is started again.
    with pie.serving(model=model_file()) as url, sync.PieClient(url) as client:
        assert client.program_exists(program) and client.run(program, ["hello", "again"]) == "hello again"


def test_the_figures_of_a_server_are_those_of_its_page(url):
    with sync.PieClient(url) as client:
        stats = client.stats()
        assert any("pie_" in json.dumps(part) for part in (stats if isinstance(stats, list) else [stats]))
        assert json.loads(client.query("model_status")), "the artifact's question has an answer"
