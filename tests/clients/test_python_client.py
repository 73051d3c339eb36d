"""`pie_client` against a server that is a script: what it says and hears, and what it does when that does wrong."""

import asyncio
import collections
import contextlib
import gc
import logging
import ssl
import threading
from random import Random

import msgpack
import pytest
from conftest import ROOT, asynchronous, free_port
from fake_sessions import FakeServer
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from pie_client import (
    AuthenticationError,
    ConnectionLost,
    InferletFailed,
    InstanceEnded,
    InstanceLost,
    PieClient,
    PieError,
    ProtocolError,
    RequestError,
    SessionLost,
    program_hash,
    sync,
)
from pie_client.address import session_address

PROGRAM = bytes(range(256)) * 41  # Eleven parts of the fake server's size, the last not full.
WELCOME = {
    "type": "welcome", "version": 1, "server": "fake/1", "session": "s", "resumed": False, "user": "local",
    "limits": {
        "message_bytes": 1 << 20, "requests": 64, "request_bytes": 1 << 22, "chunk_bytes": 1 << 10,
        "lease_ms": 60_000, "ping_ms": 20_000,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left_unsaid(caplog):
    """asyncio logs the errors of tasks and futures that nobody looked at."""
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        yield
        gc.collect()
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


def everything(events):
    return [(str(kind), value) for kind, value in events]


@pytest.mark.parametrize(
    ("address", "session"),
    [
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/session"),
        ("127.0.0.1:8080", "ws://127.0.0.1:8080/v1/session"),
        ("http://localhost:8080/", "ws://localhost:8080/v1/session"),
        ("https://pie.example.com", "wss://pie.example.com/v1/session"),
        ("wss://[::1]:8443/v1/session", "wss://[::1]:8443/v1/session"),
        ("https://example.com/pie/v1/session/", "wss://example.com/pie/v1/session"),
    ],
)
def test_the_address_of_a_server_is_that_of_its_sessions(address, session):
    assert session_address(address) == session


@pytest.mark.parametrize("address", ["ftp://host", "ws://", "http://host?key=1", "ws://user:secret@host", ""])
def test_a_wrong_address_is_refused_before_anything_is_sent(address):
    with pytest.raises(ValueError, match="address"):
        PieClient(address)


def test_certificates_are_for_encrypted_addresses():
    with pytest.raises(ValueError, match="`http://localhost` is not encrypted"):
        PieClient("http://localhost", tls=ssl.create_default_context())


@asynchronous
async def test_the_calls_of_the_artifact_do_what_they_did():
    async with FakeServer(key="sk-1").running() as server, PieClient(server.url) as client:
        await client.authenticate("sk-1")
        name = program_hash(PROGRAM)
        assert not await client.program_exists(name) and await client.query("program_exists", name) == "false"
        assert await client.upload_program(PROGRAM) == name
        assert await client.program_exists(name) and await client.query("program_exists", name) == "true"
        assert server.programs[name] == PROGRAM
        instance = await client.launch_instance("echo", arguments=[])
        await instance.send("hello")
        event, message = await instance.recv()
        assert (event, message) == ("message", "hello")
        await client.signal_instance(instance.instance_id, "end")
        while event != "terminated":
            event, message = await instance.recv()
        assert message == "finished"
        instance = await client.launch_instance("wait")
        await instance.terminate()
        assert everything([event async for event in instance]) == [
            ("error", "somebody ended the inferlet"),
            ("terminated", "somebody ended the inferlet (killed)"),
        ]
        with pytest.raises(PieError, match="--serve 9000=echo"):
            await client.launch_server_instance("echo", 9000, [])
        with pytest.raises(ValueError, match="subject `weather`; expected"):
            await client.query("weather")


@asynchronous
async def test_an_upload_says_how_far_it_is_and_happens_once(tmp_path):
    async with FakeServer().running() as server, PieClient(server.url) as client:
        seen = []
        await client.upload_program(PROGRAM, lambda sent, total: seen.append((sent, total)))
        parts = [min(sent, len(PROGRAM)) for sent in range(0, len(PROGRAM) + 1024, 1024)]
        assert seen == [(sent, len(PROGRAM)) for sent in parts]
        file = tmp_path / "program.wasm"
        file.write_bytes(PROGRAM)
        server.calls.clear()
        assert await client.upload_program(file) == program_hash(PROGRAM)
        assert await client.upload_program(str(file)) == program_hash(PROGRAM)
        assert server.calls == ["find", "find"]
        with pytest.raises(ValueError, match="empty"):
            await client.upload_program(b"")
        with pytest.raises(FileNotFoundError):
            await client.upload_program(tmp_path / "none.wasm")


@asynchronous
async def test_every_stream_comes_in_the_order_of_the_program():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        instance = await client.launch_instance("streams")
        assert everything([event async for event in instance]) == [
            ("stdout", "gr"),
            ("stderr", "oh"),
            ("stdout", "ün "),
            ("message", "a text"),
            ("blob", b"\x00\xff"),
            ("stdout", "\ufffd"),
            ("result", "all"),
            ("terminated", "finished"),
        ]
        assert await instance.result() == "all"
        await instance.terminate()
        assert "terminate" not in server.calls, "nothing is left to be ended"
        with pytest.raises(InstanceEnded, match=instance.instance_id):
            await instance.recv()


@asynchronous
async def test_a_failure_is_no_result():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        with pytest.raises(InferletFailed, match="out of luck") as failed:
            await client.run("fail", ["out of luck"])
        assert failed.value.code == "program-failed" and failed.value.message == "out of luck"
        texts = []
        with pytest.raises(InferletFailed):
            async for text in (await client.launch_instance("fail")).messages():
                texts.append(text)
        assert texts == ["before"]
        with pytest.raises(RequestError, match="no program `none`") as refused:
            await client.launch_instance("none")
        assert refused.value.code == "unknown-program"
        assert await client.run("count", ["3"]) == "counted to 3"
        with pytest.raises(TypeError, match="the text 'three'; expected a list"):
            await client.run("count", "three")


@asynchronous
async def test_messages_of_both_kinds_keep_their_order_and_the_input_ends():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        instance = await client.launch_instance("echo")
        sent = ["one", b"two", "three", b"", "", "ünf"]
        for message in sent:
            await instance.send(message)
        await instance.end_input()
        events = [event async for event in instance]
        assert [event.value for event in events[:-2]] == sent
        assert events[-2].text == "no more input"
        assert events[1].data == b"two"
        with pytest.raises(TypeError):
            _ = events[1].text
        with pytest.raises(TypeError):
            _ = events[0].data


@asynchronous
async def test_a_slow_reader_holds_up_the_program_and_nothing_else():
    async with FakeServer(log_events=8).running() as server, PieClient(server.url) as client:
        slow = await client.launch_instance("count", ["1000"])
        assert await client.run("count", ["500"]) == "counted to 500"
        inferlet = server.inferlets[slow.instance_id]
        assert not inferlet.ended and inferlet.last <= 8
        assert [text async for text in slow.messages()] == [str(number) for number in range(1000)]


@asynchronous
async def test_two_clients_of_one_inferlet_get_all_of_it():
    async with FakeServer(log_events=64).running() as server:
        async with PieClient(server.url) as one, PieClient(server.url) as two:
            id = await one.launch_detached("echo")
            assert [listed.id for listed in await two.list_instances()] == [id]
            instances = [await client.attach_instance(id) for client in (one, two)]
            await instances[0].send("from one")
            await instances[1].send("from two")
            for instance in instances:
                assert [(await instance.recv()).text for _ in range(2)] == ["from one", "from two"]
            await instances[1].detach()
            with pytest.raises(InstanceLost, match="detached"):
                await instances[1].recv()
            await one.signal_instance(id, "end")
            assert await instances[0].result() == "3 messages"


@asynchronous
async def test_what_was_read_of_a_detached_inferlet_is_not_kept():
    async with FakeServer().running() as server:
        async with PieClient(server.url) as client:
            id = await client.launch_detached("count", ["20"])
        async with PieClient(server.url) as client:
            assert await (await client.attach_instance(id)).result() == "counted to 20"
        while server.inferlets[id].log:
            await asyncio.sleep(0.001)


@asynchronous
async def test_no_more_requests_are_sent_than_the_server_allows():
    async with FakeServer(limits={"requests": 8}).running() as server, PieClient(server.url) as client:
        results = await asyncio.gather(*(client.run("count", [str(number)]) for number in range(200)))
        assert results == [f"counted to {number}" for number in range(200)]
        assert server.most_waiting <= 8
        with pytest.raises(ValueError, match="the server takes 1048576 at most"):
            await client.run("count", ["1", "x" * (1 << 20)])


@asynchronous
async def test_a_recv_and_a_send_that_are_given_up_lose_nothing():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        instance = await client.launch_instance("echo")
        for number in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(instance.recv(), 0.001)
            sending = asyncio.create_task(instance.send(str(number)))
            await asyncio.sleep(0)
            sending.cancel()
            assert (await instance.recv()).text == str(number)


@asynchronous
async def test_a_launch_that_is_given_up_leaves_no_inferlet():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        server.hold = asyncio.Event()
        launch = asyncio.create_task(client.launch_instance("wait"))
        while "launch" not in server.calls:
            await asyncio.sleep(0)
        launch.cancel()
        server.hold.set()
        while not (server.inferlets and all(inferlet.ended for inferlet in server.inferlets.values())):
            await asyncio.sleep(0.001)
        assert server.calls == ["launch", "terminate"]


@asynchronous
async def test_an_instance_ends_with_its_block_and_the_others_with_the_client():
    async with FakeServer().running() as server:
        async with PieClient(server.url) as client:
            async with await client.launch_instance("wait") as instance:
                pass
            assert server.inferlets[instance.instance_id].ended
            ends = server.inferlets[(await client.launch_instance("wait")).instance_id]
            stays = server.inferlets[await client.launch_detached("wait")]
        while not ends.ended:
            await asyncio.sleep(0.001)
        assert not stays.ended
        with pytest.raises(ConnectionLost, match="closed"):
            await client.launch_instance("wait")


@asynchronous
async def test_a_client_that_goes_while_its_connection_is_lost_says_so_on_another():
    async with FakeServer().running() as server:
        async with PieClient(server.url) as client:
            id = await client.launch_detached("count", ["5"])
            assert await (await client.attach_instance(id)).result() == "counted to 5"
            server.cut()
        while server.sessions or server.inferlets[id].log:
            await asyncio.sleep(0.001)


@asynchronous
async def test_a_connection_that_is_lost_in_mid_stream_is_made_again():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        counting = await client.launch_instance("count", ["300"])
        talking = await client.launch_instance("echo")
        texts = []
        async for text in counting.messages():
            texts.append(text)
            if len(texts) % 50 == 0:
                server.cut()
                await talking.send(text)
        assert texts == [str(number) for number in range(300)]
        assert [(await talking.recv()).text for _ in range(6)] == [str(n) for n in range(49, 300, 50)]
        assert len(server.sessions) == 1


@asynchronous
async def test_a_server_that_was_started_again_loses_what_it_ran_and_serves_on():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        instance = await client.launch_instance("echo")
        await instance.send("kept")
        while not instance._inbox.received:
            await asyncio.sleep(0.001)
        server.hold = asyncio.Event()
        launch = asyncio.create_task(client.launch_instance("wait"))
        listed = asyncio.create_task(client.list_instances())
        while server.calls[-1] != "list":
            await asyncio.sleep(0)
        server.lose_sessions()
        with pytest.raises(SessionLost, match="whether `launch` was done is not known"):
            await launch
        server.hold.set()
        assert await listed == []
        assert (await instance.recv()).text == "kept"
        with pytest.raises(InstanceLost, match=instance.instance_id):
            await instance.recv()
        assert await client.run("count", ["2"]) == "counted to 2"


@asynchronous
async def test_an_upload_goes_on_in_a_new_session():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        lost = []

        def lose(sent, total):
            if sent > total // 2 and not lost:
                lost.append(sent)
                server.lose_sessions()

        await client.upload_program(PROGRAM, lose)
        assert lost and server.programs[program_hash(PROGRAM)] == PROGRAM


@asynchronous
async def test_a_server_that_stops_is_waited_for_and_one_that_refuses_is_not():
    async with FakeServer().running() as server, PieClient(server.url) as client:
        await server.close_all("stopping")
        assert await client.run("count", ["2"]) == "counted to 2"
        for code in ("taken-over", "key-revoked", "unsupported-version", "malformed-message"):
            async with PieClient(server.url) as client:
                instance = await client.launch_instance("wait")
                await server.close_all(code)
                with pytest.raises(RequestError) as refused:
                    await instance.recv()
                assert refused.value.code == code
                with pytest.raises(RequestError):
                    await client.launch_instance("wait")


@asynchronous
async def test_without_a_server_the_reason_is_said():
    nowhere = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionLost, match=f"no server at {nowhere}"):
        async with PieClient(nowhere):
            pass
    with pytest.raises(ConnectionLost, match="not opened"):
        await PieClient(nowhere).launch_instance("echo")
    async with FakeServer().running() as server:
        with pytest.raises(ConnectionLost, match="expected the path `/v1/session`"):
            async with PieClient(f"{server.url}/v1/models"):
                pass
        async with PieClient(server.url, reconnect_s=0) as client:
            instance = await client.launch_instance("wait")
            server.cut()
            with pytest.raises(ConnectionLost, match="turned off"):
                await instance.recv()


@asynchronous
async def test_a_key_is_needed_where_the_server_has_keys():
    async with FakeServer(key="sk-1").running() as server:
        async with PieClient(server.url, key="sk-1") as client:
            assert client.welcome.user == "local" and await client.run("count", ["1"]) == "counted to 1"
        with pytest.raises(AuthenticationError, match="the key was not taken .*no such key"):
            async with PieClient(server.url, key="sk-2"):
                pass
        async with PieClient(server.url) as client:
            for ask in (client.list_instances(), client.launch_instance("echo"), client.authenticate("sk-2")):
                with pytest.raises(AuthenticationError):
                    await ask
            await client.authenticate("sk-1")
            instance = await client.launch_instance("wait")
            with pytest.raises(PieError, match="before launching"):
                await client.authenticate("sk-3")
            await instance.terminate()


def answer(kind, **fields):
    return {"type": "answer", "request": 1, "answer": {"type": kind, **fields}}


LAUNCHED = answer("launched", inferlet="a")


def event(number, inferlet="a", **fields):
    return {"type": "event", "inferlet": inferlet, "number": number, "event": fields}


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([{"type": "answer"}], "`request` of the message of the server is missing"),
        (["text"], "text frame"),
        ([b"\xc1"], "no MessagePack"),
        ([b"\xdf\xff\xff\xff\xff"], "no MessagePack"),
        ([b""], "no MessagePack"),
        ([b"\x01\x02"], "no MessagePack"),
        ([b"\x93\x01\x02\x03"], "expected a map"),
        ([{"no": "type"}], "`type` of the message"),
        ([answer("done")], "answered `launch` with `done`; expected `launched`"),
        ([answer("launched", inferlet=7)], "`inferlet` .* is int 7; expected a string"),
        ([{"type": "error", "request": 1, "error": {"code": "internal"}}], "`message` of the message.error"),
        ([LAUNCHED, event(2, type="text", text="x")], "event 2 of a; expected 1"),
        ([LAUNCHED, event(1, type="text")], "`text` of the message.event of the server is missing"),
        ([LAUNCHED, event(1, type="dance")], "type `dance`"),
        ([LAUNCHED, event(-1, type="text", text="x")], "expected a number that is not negative"),
        ([LAUNCHED, event(True, type="text", text="x")], "expected a number that is not negative"),
        ([LAUNCHED, event(1, type="result", text="x"), event(2, type="text", text="y")], "expected none"),
    ],
)
@asynchronous
async def test_what_is_no_message_ends_the_session_with_its_name_and_nobody_waits_on(frames, found):
    async def session(socket):
        await socket.recv()
        await socket.send(msgpack.packb(WELCOME))
        await socket.recv()
        for frame in frames:
            await socket.send(msgpack.packb(frame) if isinstance(frame, dict) else frame)
        await socket.wait_closed()

    async with serve(session, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with PieClient(address) as client:
            with pytest.raises(ProtocolError, match=found):
                instance = await client.launch_instance("p")
                async for _ in instance:
                    pass
                await client.stats()


def damaged(frames, random):
    """A message with some bytes changed, left out or put in."""
    frame = bytearray(random.choice(frames))
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(frame))
        match random.randrange(4):
            case 0:
                frame[at] = random.randrange(256)
            case 1:
                del frame[at:]
            case 2:
                frame[at:at] = random.randbytes(random.randint(1, 8))
            case 3:
                frame[at:at] = b"\x91" * random.randint(1, 5000)
        frame = frame or bytearray(b"\0")
    return bytes(frame)


@asynchronous
async def test_any_bytes_are_a_message_or_an_error_with_a_name():
    recorded = (ROOT / "crates/protocol/tests/golden.txt").read_text().splitlines()
    frames = [bytes.fromhex(line.split("\t")[1]) for line in recorded]
    messages = [message for message in map(msgpack.unpackb, frames) if message["type"] == "event"]
    events = [next(message for message in messages if message["number"] == number) for number in range(1, 6)]
    seeds = iter(range(10_000))

    async def session(socket):
        await socket.recv()
        await socket.send(msgpack.packb(WELCOME))
        await socket.recv()
        random = Random(next(seeds))
        with contextlib.suppress(ConnectionClosed):
            await socket.send(msgpack.packb(answer("launched", inferlet=events[0]["inferlet"])))
            # Its first events are whole, so that those behind them are looked at.
            for message in events[: random.randrange(len(events))]:
                await socket.send(msgpack.packb(message))
            for _ in range(8):
                await socket.send(damaged(frames, random))
        socket.transport.abort()

    ended = collections.Counter()
    async with serve(session, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for seed in range(300):
            async with PieClient(address, reconnect_s=0) as client:
                try:
                    async for _ in await client.launch_instance("p"):
                        pass
                except PieError as error:
                    ended[type(error)] += 1
                except Exception as error:
                    raise AssertionError(f"seed {seed}") from error
    assert ended[ProtocolError] > 100, ended


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ({**WELCOME, "version": 2}, "version 2 of the protocol"),
        ({**WELCOME, "limits": {}}, "`message_bytes` of the message.limits"),
        ({"type": "answer"}, "said `answer` first"),
    ],
)
@asynchronous
async def test_a_wrong_welcome_is_refused(first, found):
    async def session(socket):
        await socket.recv()
        await socket.send(msgpack.packb(first))
        await socket.wait_closed()

    async with serve(session, "127.0.0.1", 0) as server:
        with pytest.raises(ProtocolError, match=found):
            async with PieClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"):
                pass


@asynchronous
async def test_what_a_later_server_says_beside_is_passed_over():
    async def session(socket):
        await socket.recv()
        await socket.send(msgpack.packb({**WELCOME, "motd": "hi"}))
        request = msgpack.unpackb(await socket.recv())["request"]
        for message in (
            {"type": "weather", "sun": True},
            event(1, inferlet="nobody's", type="text", text="x"),
            {"type": "answer", "request": 99, "answer": {"type": "done"}},
            {"type": "answer", "request": request, "answer": {"type": "found", "known": True, "since": 3}},
        ):
            await socket.send(msgpack.packb(message))
        await socket.wait_closed()

    async with serve(session, "127.0.0.1", 0) as server:
        async with PieClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            assert await client.program_exists("0" * 64)


@asynchronous
async def test_an_event_that_comes_again_is_left_out():
    async def session(socket):
        await socket.recv()
        await socket.send(msgpack.packb(WELCOME))
        await socket.recv()
        numbers = [1, 1, 2, 1, 2, 3]
        says = [event(number, type="text", text=str(number)) for number in numbers]
        for message in (LAUNCHED, *says, event(4, type="result", text=""), event(3, type="text", text="3")):
            await socket.send(msgpack.packb(message))
        await socket.wait_closed()

    async with serve(session, "127.0.0.1", 0) as server:
        async with PieClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            instance = await client.launch_instance("p")
            assert [text async for text in instance.messages()] == ["1", "2", "3"]


class Background:
    """A fake server in a thread of its own, for clients that block."""

    def __enter__(self):
        self.ready, self.loop = threading.Event(), asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self._serve()])
        self.thread.start()
        assert self.ready.wait(60)
        return self.server

    async def _serve(self):
        self.done, self.server = asyncio.Event(), FakeServer()
        async with self.server.running():
            self.ready.set()
            await self.done.wait()

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.done.set)
        self.thread.join()
        self.loop.close()


def test_the_sync_face_has_every_call_and_the_same_events():
    public = {name for name in vars(PieClient) if not name.startswith("_")}
    assert public == {name for name in vars(sync.PieClient) if not name.startswith("_")}
    from pie_client import Instance

    public = {name for name in vars(Instance) if not name.startswith("_")}
    assert public == {name for name in vars(sync.Instance) if not name.startswith("_")}
    with Background() as server, sync.PieClient(server.url) as client:
        seen = []
        client.upload_program(PROGRAM, lambda sent, _: seen.append(sent))
        assert seen[0] == 0 and seen[-1] == len(PROGRAM) and client.program_exists(program_hash(PROGRAM))
        instance = client.launch_instance("echo")
        instance.send("hello")
        assert instance.recv() == ("message", "hello")
        instance.end_input()
        assert everything(instance) == [("result", "no more input"), ("terminated", "finished")]
        assert instance.result() == "no more input"
        assert list(client.launch_instance("count", ["3"]).messages()) == ["0", "1", "2"]
        with pytest.raises(InferletFailed):
            list(client.launch_instance("fail").messages())
        with client.launch_instance("wait") as instance:
            assert [listed.state for listed in client.list_instances() if listed.id == instance.instance_id] == [
                "running"
            ]
        assert server.inferlets[instance.instance_id].ended
        threads = [threading.Thread(target=client.run, args=["count", ["50"]]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with pytest.raises(RuntimeError, match="closed"):
        client.run("count", ["1"])
    with pytest.raises(RuntimeError, match="not open"):
        sync.PieClient(server.url).run("count", ["1"])
