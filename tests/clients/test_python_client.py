"""`pie_client` against a server that is a script: what it says, and what it hears."""

import asyncio

import pytest
from conftest import asynchronous
from fake_sessions import FakeServer
from pie_client import (
    ConnectionLost,
    InferletFailed,
    InstanceEnded,
    InstanceLost,
    PieClient,
    PieError,
    RequestError,
    program_hash,
)

pytestmark = pytest.mark.usefixtures("nothing_is_left_unsaid")
PROGRAM = bytes(range(256)) * 41  # Eleven parts of the fake server's size, the last not full.


def everything(events):
    return [(str(kind), value) for kind, value in events]


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
