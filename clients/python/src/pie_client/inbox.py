"""The events of one inferlet on their way from the connection to whoever reads them.

It holds what came and was not read yet. The server sends no more than the inferlet's log holds, and keeps in the log
what is not acknowledged; only what was read is acknowledged. So what waits here is bounded by the log (1 MiB or 4096
events, unless the server is configured otherwise), and a reader that is slow makes the program wait.
"""

import asyncio
from collections import deque

from .errors import InstanceEnded, PieError, ProtocolError
from .events import Event, EventKind, EventReader
from .fields import Fields


class Inbox:
    """What one inferlet said. Numbers are those of its log, from 1 on."""

    def __init__(self, inferlet: str, last: int) -> None:
        """`last` is the number of the last event that was had before."""
        self.inferlet = inferlet
        self.received = last
        """Number of the last event that came."""
        self.taken = last
        """Number of the last event that was read: what may be acknowledged."""
        self._reader = EventReader()
        # Events with the number that may be acknowledged when they are read. An event of the log may stand for several:
        # then the last of them has its number, and the others that of the one before.
        self._events: deque[tuple[int, Event]] = deque()
        self._news = asyncio.Event()
        self._end_came = False
        self._end_taken = False
        self._lost: PieError | None = None

    @property
    def end_came(self) -> bool:
        """Whether the last event has come, so that no more have to be asked for."""
        return self._end_came

    @property
    def end_taken(self) -> bool:
        """Whether the last event has been read."""
        return self._end_taken

    def outcome(self) -> str:
        """What the program returned. To be called when the end has come.

        Raises InferletFailed where it returned nothing.
        """
        if self._reader.failure:
            raise self._reader.failure
        assert self._reader.result is not None, "the end has come"
        return self._reader.result

    def put(self, number: int, fields: Fields) -> None:
        """Takes in an event of the log. One that came before is left out: a session that is resumed may repeat some."""
        if number <= self.received or self._lost:
            return
        if number != self.received + 1 or self._end_came:
            expected = "none, since it has ended" if self._end_came else str(self.received + 1)
            raise ProtocolError(f"the server sent event {number} of {self.inferlet}; expected {expected}")
        events = self._reader.read(fields)
        self._events.extend((self.received, event) for event in events[:-1])
        self._events.append((number, events[-1]))
        self.received = number
        self._end_came = events[-1].kind is EventKind.TERMINATED
        self._news.set()

    def lose(self, why: PieError) -> None:
        """No more can come. What came can still be read, and then reading raises `why`."""
        if not self._end_came and self._lost is None:
            self._lost = why
            self._news.set()

    async def get(self) -> Event:
        """The next event.

        Raises InstanceEnded behind the last, and where no more can come, why.
        """
        while not self._events:
            if self._end_taken:
                raise InstanceEnded(f"the inferlet {self.inferlet} has ended, and its last event was read before")
            if self._lost:
                raise self._lost
            self._news.clear()
            await self._news.wait()
        self.taken, event = self._events.popleft()
        self._end_taken = event.kind is EventKind.TERMINATED
        return event
