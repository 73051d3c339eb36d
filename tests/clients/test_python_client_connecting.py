"""How `pie_client` comes to a server, with which key, and what it does when the connection or the server goes."""

import asyncio
import ssl

import pytest
from conftest import asynchronous, free_port
from fake_sessions import FakeServer
from pie_client import (
    AuthenticationError,
    ConnectionLost,
    InstanceLost,
    PieClient,
    PieError,
    RequestError,
    SessionLost,
    program_hash,
)
from pie_client.address import session_address

pytestmark = pytest.mark.usefixtures("nothing_is_left_unsaid")
PROGRAM = bytes(range(256)) * 41  # Eleven parts of the fake server's size, the last not full.


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
