"""Requests that have no answer yet, within what the server allows.

A request has a number, by which the server knows one that comes again on another connection: it is done once, and each
is answered. So a request is kept with its frame until its answer is there, over as many connections as that takes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from .calls import Call
from .errors import PieError, ProtocolError
from .fields import Fields

T = TypeVar("T")


class Room:
    """How many requests, and how many bytes of them, may be without an answer. Who waits is let in in order."""

    def __init__(self) -> None:
        self._requests = self._bytes = 0
        self._limits = (0, 0)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def allow(self, requests: int, size: int) -> None:
        """Sets the limits."""
        self._limits = (requests, size)
        self._let_in()

    async def take(self, size: int) -> None:
        """Waits for room for a request of this many bytes."""
        if not self._waiting and self._fits(size):
            self._enter(size)
            return
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, entered))
        try:
            await entered
        except asyncio.CancelledError:
            if entered.cancelled():
                self._let_in()
            elif entered.exception() is None:
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Gives back what a request had."""
        self._requests -= 1
        self._bytes -= size
        self._let_in()

    def refuse_all(self, why: PieError) -> None:
        """Nobody who waits is let in any more."""
        for _, entered in self._waiting:
            if not entered.done():
                entered.set_exception(why)
        self._waiting.clear()

    def _fits(self, size: int) -> bool:
        requests, most = self._limits
        # One that is too large for all of the room goes alone, for the server to refuse it.
        return self._requests == 0 or (self._requests < requests and self._bytes + size <= most)

    def _enter(self, size: int) -> None:
        self._requests += 1
        self._bytes += size

    def _let_in(self) -> None:
        while self._waiting:
            size, entered = self._waiting[0]
            if not entered.done():
                if not self._fits(size):
                    return
                self._enter(size)
                entered.set_result(None)
            self._waiting.popleft()


class Request(Generic[T]):
    """A call under way."""

    def __init__(self, call: Call, number: int, frame: bytes, read: Callable[[Fields], T]) -> None:
        """`read` makes a value of the answer, where the connection is read: before any later event is."""
        self.call = call
        self.number = number
        self.frame = frame
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[], None] = lambda: None
        """Called when there is an answer, or none is expected any more."""
        self._read = read

    def answer(self, fields: Fields) -> T:
        """Ends the request with a value. One that nobody waits for any more is read all the same."""
        kind = fields.text("type")
        if kind != self.call.answer:
            asked = self.call.message["type"]
            raise ProtocolError(f"the server answered `{asked}` with `{kind}`; expected `{self.call.answer}`")
        value = self._read(fields)
        if not self.future.done():
            self.future.set_result(value)
        return value

    def fail(self, error: PieError) -> None:
        """Ends the request with an error."""
        if not self.future.done():
            self.future.set_exception(error)
