"""A proxy that cuts the connections of a WebSocket at the boundaries of messages, where a test says so.

It forwards the request of the upgrade and its answer as they are, and then one frame after the other, in both
directions. Frames of data are numbered in the order in which they arrive, over all connections; a `Cut` decides by that
number what becomes of the frame and of the connection. Frames of control (ping, pong, close) pass and are not counted,
since they come when time says so. A cut connection ends without a closing handshake, as one whose network is gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from enum import Enum
from urllib.parse import urlsplit

CONTROL = 8  # Opcodes from here on are frames of control.


class Cut(Enum):
    """What happens at a frame of data."""

    NOT = "not"
    BEFORE = "before"  # The frame is not delivered, and the connection ends.
    WITHIN = "within"  # The first half of it is.
    AFTER = "after"  # It is delivered, and then the connection ends.


class CuttingProxy:
    """Listens on a port of this machine, and forwards to a server."""

    def __init__(self, server: str, cut: Callable[[int], Cut]) -> None:
        self._server, self._cut = urlsplit(server), cut
        self._pairs: set[asyncio.Task[None]] = set()
        self.frames = 0
        self.cuts = 0
        self.connections = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CuttingProxy"]:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()
            self.cut_all()
            await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut_all(self) -> None:
        """Ends every connection now."""
        self.cuts += len(self._pairs)
        for pair in self._pairs:
            pair.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        self.connections += 1
        upstream = None
        try:
            upstream = await asyncio.open_connection(self._server.hostname, self._server.port)
            # The first of both directions to end ends the connection.
            pumps = [
                asyncio.ensure_future(self._pump(reader, upstream[1])),
                asyncio.ensure_future(self._pump(upstream[0], writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(task)
            # What was written before is still delivered.
            writer.close()
            if upstream:
                upstream[1].close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            while True:
                opcode, frame = await read_frame(reader)
                cut = Cut.NOT
                if opcode < CONTROL:
                    cut = self._cut(self.frames)
                    self.frames += 1
                if cut is Cut.BEFORE:
                    frame = b""
                elif cut is Cut.WITHIN:
                    frame = frame[: len(frame) // 2]
                writer.write(frame)
                await writer.drain()
                if cut is not Cut.NOT:
                    self.cuts += 1
                    return


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The opcode of the next frame, and all of its bytes (RFC 6455, 5.2)."""
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    if length >= 126:
        more = await reader.readexactly(2 if length == 126 else 8)
        head, length = head + more, int.from_bytes(more, "big")
    mask = 4 if head[1] & 0x80 else 0
    return head[0] & 0x0F, head + await reader.readexactly(mask + length)


def cut_at(frame: int, cut: Cut) -> Callable[[int], Cut]:
    """Cuts once, at this frame."""
    return lambda index: cut if index == frame else Cut.NOT


def cut_every(frames: int, *cuts: Cut) -> Callable[[int], Cut]:
    """Cuts again and again, at every so manieth frame, in these ways in turn."""
    return lambda index: cuts[index // frames % len(cuts)] if index % frames == frames - 1 else Cut.NOT
