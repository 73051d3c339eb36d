"""One inferlet, as its client sees it."""

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from . import calls
from .errors import ConnectionLost, InstanceEnded, InstanceLost
from .events import Event, EventKind
from .inbox import Inbox
from .session import Session


class Instance:
    """A running inferlet. `PieClient.launch_instance` and `attach_instance` make it.

    It is also a context manager that terminates the inferlet at its end, unless it has ended by itself.
    """

    def __init__(self, session: Session, inbox: Inbox) -> None:
        self._session = session
        self._inbox = inbox

    @property
    def instance_id(self) -> str:
        """The id of the inferlet, by which another client can attach."""
        return self._inbox.inferlet

    async def recv(self) -> Event:
        """The next event, in the order in which the program made them: `kind, value = await instance.recv()`.

        The last one is of the kind `terminated`. A program whose events nobody takes waits when its log on the server
        is full.

        Raises InstanceEnded behind the last event, InstanceLost where the server no longer has the events, and
        ConnectionLost.
        """
        return await self._session.take(self._inbox)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events that were not taken yet, to the last."""
        while True:
            try:
                yield await self.recv()
            except InstanceEnded:
                return

    async def messages(self) -> AsyncIterator[str]:
        """The texts that the program sends, until it ends. Other events are passed over.

        Raises InferletFailed when the program ends without a result.
        """
        async for event in self:
            if event.kind is EventKind.MESSAGE:
                yield event.text
        self._inbox.outcome()

    async def result(self) -> str:
        """Waits for the end, and gives what the program returned. Events that were not taken before are passed over.

        Raises InferletFailed when the program returned nothing.
        """
        async for _ in self:
            pass
        return self._inbox.outcome()

    async def send(self, message: str | bytes) -> None:
        """Sends a text for the program's `receive`, or bytes for its `receive_blob`.

        It is done when the message is in the queue of the inferlet; while that is full, it waits.

        Raises RequestError with the code `ended` for an inferlet that takes no more, and ValueError for a message that
        is larger than the server takes (`message_bytes` of its limits, 4 MiB by default).
        """
        await self._session.call(calls.send(self.instance_id, message), lambda _: None)

    async def end_input(self) -> None:
        """Says that no more messages come: the program's `receive` then says closed."""
        await self._session.call(calls.end_input(self.instance_id), lambda _: None)

    async def detach(self) -> None:
        """Takes no more events. The inferlet goes on, also behind the end of this client."""
        await self._session.call(calls.detach(self.instance_id), lambda _: None)
        self._session.forget(self.instance_id, InstanceLost(f"{self.instance_id} was detached from"))

    async def terminate(self) -> None:
        """Ends the inferlet, whatever it does. Its events end with an error whose code is `killed`.

        Does nothing for one that has ended.
        """
        if not self._inbox.end_came:
            await self._session.call(calls.terminate(self.instance_id), lambda _: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without a connection, the server ends the inferlet with the session.
        with contextlib.suppress(ConnectionLost, InstanceLost):
            await self.terminate()
            async for _ in self:
                pass
