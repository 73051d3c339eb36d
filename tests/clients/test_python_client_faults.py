"""`pie_client` while its connections are cut between messages and within them: nothing is lost, nothing is doubled.

Each test says the same conversation through a proxy that cuts, and compares what both sides heard with what was said.
"""

import asyncio
import itertools

import pytest
from conftest import asynchronous
from cutting_proxy import Cut, CuttingProxy, cut_at, cut_every
from fake_sessions import FakeServer

from pie_client import ConnectionLost, PieClient, program_hash

PROGRAM = bytes(range(256)) * 24  # Six parts.
SAID = ["one", b"two", "three", "four", b"five"]
COUNTED = [str(number) for number in range(30)]
# Hello and welcome of the first connection, which is not tried again.
FIRST = 2


async def converse(client):
    """An upload, two inferlets, messages of both kinds: the events of both inferlets."""
    await client.upload_program(PROGRAM)
    talking, counting = await asyncio.gather(
        client.launch_instance("echo"), client.launch_instance("count", [str(len(COUNTED))])
    )

    async def talk():
        for message in SAID:
            await talking.send(message)
        await talking.send("end")

    _, heard, counted = await asyncio.gather(talk(), everything(talking), everything(counting))
    return heard, counted


async def no_session(server):
    """Waits until the server knows that the client has gone, which it does not only when a lease is over."""
    while server.sessions:
        await asyncio.sleep(0.001)


async def everything(instance):
    return [(str(kind), value) async for kind, value in instance]


def check(server, heard, counted):
    """That both sides heard what was said, once."""
    kinds = {str: "message", bytes: "blob"}
    assert heard == [
        *[(kinds[type(message)], message) for message in SAID],
        ("result", f"{len(SAID) + 1} messages"),
        ("terminated", "finished"),
    ]
    assert counted == [
        *[("message", number) for number in COUNTED],
        ("result", f"counted to {len(COUNTED)}"),
        ("terminated", "finished"),
    ]
    assert server.programs == {program_hash(PROGRAM): PROGRAM}
    received = [inferlet.received for inferlet in server.inferlets.values() if inferlet.program == "echo"]
    assert received == [[*SAID, "end"]], "each launch and each message was done once"
    assert len(server.inferlets) == 2


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.WITHIN, Cut.AFTER])
@asynchronous
async def test_a_connection_may_be_cut_at_any_message(cut):
    cuts = 0
    for frame in itertools.count():
        async with FakeServer().running() as server, CuttingProxy(server.url, cut_at(frame, cut)).running() as proxy:
            try:
                async with PieClient(proxy.url) as client:
                    check(server, *await converse(client))
                    assert len(server.sessions) == 1 and client.welcome.resumed == (proxy.connections > 1)
                    # An answer shows that what was said before it arrived, also what has no answer.
                    await client.list_instances()
                    acknowledged = [len(inferlet.log) for inferlet in server.inferlets.values()]
                    assert acknowledged == [0, 0], f"unacknowledged events behind a cut at {frame}"
            except ConnectionLost:
                assert frame < FIRST, f"cut at frame {frame}"
            if FIRST <= frame:
                await no_session(server)
            if FIRST <= frame < proxy.frames - 1:
                assert proxy.connections == 2 and proxy.cuts == 1
            cuts += proxy.cuts
            if proxy.frames <= frame:
                break
    assert cuts == frame >= 60, "every message of the conversation was cut at"


@pytest.mark.parametrize("frames", [11, 16, 23])
@asynchronous
async def test_a_connection_may_be_cut_again_and_again(frames):
    cut = cut_every(frames, Cut.BEFORE, Cut.AFTER, Cut.WITHIN)
    async with FakeServer().running() as server, CuttingProxy(server.url, cut).running() as proxy:
        async with PieClient(proxy.url) as client:
            check(server, *await converse(client))
            assert len(server.sessions) == 1
        await no_session(server)


@asynchronous
async def test_five_hundred_reconnects_lose_nothing_and_leave_nothing():
    async with FakeServer(log_events=64).running() as server:
        async with CuttingProxy(server.url, cut_every(12, Cut.AFTER)).running() as proxy:
            async with PieClient(proxy.url) as client:
                counted = 0
                while proxy.connections < 500:
                    instance = await client.launch_instance("count", ["20"])
                    assert [text async for text in instance.messages()] == [str(n) for n in range(20)]
                    counted += 1
                session = client._session
                assert not session.attached and not session._requests and not session._attaches
                assert len(session._acks_sent) < 8 and len(asyncio.all_tasks()) < 100
            await no_session(server)
            assert counted > 20
