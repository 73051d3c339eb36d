"""`pie_client.sync`: the same without asyncio."""

import asyncio
import threading

import pytest
from fake_sessions import FakeServer
from pie_client import Instance, InferletFailed, PieClient, program_hash, sync

pytestmark = pytest.mark.usefixtures("nothing_is_left_unsaid")
PROGRAM = bytes(range(256)) * 41  # Eleven parts of the fake server's size, the last not full.


def everything(events):
    return [(str(kind), value) for kind, value in events]


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
