"""`pie_client` and servers that say what the protocol does not have."""

import collections
import contextlib
from random import Random

import msgpack
import pytest
from conftest import ROOT, asynchronous
from pie_client import PieClient, PieError, ProtocolError
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.usefixtures("nothing_is_left_unsaid")
WELCOME = {
    "type": "welcome", "version": 1, "server": "fake/1", "session": "s", "resumed": False, "user": "local",
    "limits": {
        "message_bytes": 1 << 20, "requests": 64, "request_bytes": 1 << 22, "chunk_bytes": 1 << 10,
        "lease_ms": 60_000, "ping_ms": 20_000,
    },
}  # fmt: skip


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
