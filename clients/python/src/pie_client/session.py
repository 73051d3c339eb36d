"""A session: what a client and a server have in common for longer than one connection.

The plain idea: a task reads what the server says and another writes what there is to say, until the connection is lost;
then it connects again, resumes the session, and goes on. Nothing is lost or doubled, because

1. requests without an answer are sent again under their numbers, which the server does once each (`requests.py`),
2. each inferlet is attached to again behind the last event that came, and a number that came before is left out
   (`inbox.py`),
3. what was read is acknowledged, again on every connection until the answer to a later request shows that it arrived.

Who calls sees none of it, unless connecting again takes too long or the server no longer has the session.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from . import calls
from .calls import Call
from .codec import ENVELOPE_BYTES, encode, encode_request
from .connection import Connection, Refused, Target
from .errors import ConnectionLost, InstanceLost, PieError, ProtocolError, RequestError, SessionLost
from .events import Event
from .fields import Fields
from .inbox import Inbox
from .reconnect import Patience
from .records import Welcome, read_failure
from .requests import Request, Room

T = TypeVar("T")

GOODBYES = 3
"""How often the end of a session is said at most, each time on another connection."""
GOODBYE_S = 5.0
"""Seconds that saying it may take."""


class Session:
    """One session. It begins with `open`, and ends with `close` or when it can not be resumed in time."""

    def __init__(self, target: Target, reconnect_s: float) -> None:
        """`reconnect_s` is how long connecting again may take after a connection is lost; 0 gives up at once."""
        self._target = target
        self._patience = Patience(reconnect_s)
        self.welcome: Welcome | None = None
        self._connection: Connection | None = None
        self._main: asyncio.Task[None] | None = None
        self._failure: PieError | None = ConnectionLost("the session was not opened")
        # The number of the last request, and that of the first on this connection.
        self._number = self._first_here = 0
        self._requests: dict[int, Request[Any]] = {}
        # Attaching again has room of its own: an answer that others wait for may need the events.
        self._room, self._attach_room = Room(), Room()
        self._attaches: dict[int, Request[Any]] = {}
        self._inboxes: dict[str, Inbox] = {}
        # What there is to say.
        self._unsent: deque[Request[Any]] = deque()
        self._acks: dict[str, int] = {}
        self._news = asyncio.Event()
        # Acknowledgements that may not have arrived, oldest first: the number of the event, and of the first request
        # whose answer would show that it did.
        self._acks_sent: dict[str, tuple[int, int]] = {}
        # Tasks that end with the connection.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def attached(self) -> bool:
        """Whether there are inferlets whose events were not all read."""
        return bool(self._inboxes)

    async def open(self) -> None:
        """Connects. What goes wrong is raised: a first connection is not tried again."""
        try:
            connection = await Connection.open(self._target, None)
        except Refused as refused:
            raise refused.error from refused.__cause__
        self._failure = None
        self._begin(connection)
        self._main = asyncio.create_task(self._run(connection), name="pie-client session")

    async def close(self) -> None:
        """Ends the session, and on the server the inferlets that it launched and that are not detached.

        A connection that is lost meanwhile is made again for that, a few times and for a few seconds; without one, the
        server ends the session when its lease is over.
        """
        is_open = self._failure is None
        self._give_up(ConnectionLost("the session was closed"))
        if self._main and not self._connection:
            # It is connecting again.
            await self._end_main()
        if is_open:
            with contextlib.suppress(Refused, PieError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._say_goodbye()
        await self._end_main()

    async def _say_goodbye(self) -> None:
        """Says what was read and that the session is over, until it is known that the server knows it."""
        assert self.welcome is not None
        connection = self._connection
        for _ in range(GOODBYES):
            connection = connection or await Connection.open(self._target, self.welcome.session)
            # Detached inferlets go on, and what was read of them is not kept for anybody.
            self._acks = self._unconfirmed()
            await self._acknowledge(connection)
            if await connection.close():
                return
            connection = None

    async def _end_main(self) -> None:
        if self._main:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)

    async def call(self, call: Call, read: Callable[[Fields], T]) -> T:
        """Asks, and waits for the answer.

        A call that is cancelled when it was sent is done all the same, but for a launch, whose inferlet is ended.
        """
        return await (await self.start(call, read))

    async def start(self, call: Call, read: Callable[[Fields], T]) -> asyncio.Future[T]:
        """Asks as soon as there is room, and gives what will be the answer. Requests keep the order of their starts."""
        return await self._submit(call, read, self._room, self._requests)

    def adopt(self, inferlet: str, last: int) -> Inbox:
        """The inbox of an inferlet whose events come behind the number `last`. For readers of answers."""
        return self._inboxes.setdefault(inferlet, Inbox(inferlet, last))

    def forget(self, inferlet: str, why: PieError) -> None:
        """Takes no more events of an inferlet."""
        if inbox := self._inboxes.pop(inferlet, None):
            inbox.lose(why)

    async def take(self, inbox: Inbox) -> Event:
        """The next event of an inferlet. It is acknowledged with that."""
        event = await inbox.get()
        self._acks[inbox.inferlet] = inbox.taken
        self._news.set()
        if inbox.end_taken:
            self._inboxes.pop(inbox.inferlet, None)
        return event

    async def _submit(
        self, call: Call, read: Callable[[Fields], T], room: Room, table: dict[int, Request[Any]]
    ) -> asyncio.Future[T]:
        if self._failure:
            raise self._failure
        body = encode(call.message)
        size = len(body) + ENVELOPE_BYTES
        most = self.welcome.limits.message_bytes if self.welcome else size
        if size > most:
            raise ValueError(f"a `{call.message['type']}` takes {size} bytes; the server takes {most} at most")
        await room.take(size)
        if self._failure:
            room.give_back(size)
            raise self._failure
        self._number += 1
        request = Request(call, self._number, encode_request(self._number, body), read)
        # The room is free when the answer is there, also if nobody waits for it any more.
        request.on_end = lambda: room.give_back(size)
        table[request.number] = request
        self._unsent.append(request)
        self._news.set()
        return request.future

    async def _run(self, connection: Connection) -> None:
        """Uses one connection after the other, until the end."""
        try:
            while True:
                try:
                    await self._use(connection)
                except Refused as lost:
                    self._connection = None
                    if self._failure:
                        return
                    connection = await self._again(lost)
        except PieError as error:
            self._give_up(error)
        except Exception as error:
            # Nobody may wait for ever for what a fault of this package has ended.
            self._give_up(ProtocolError(f"the session failed: {error!r}"))
            raise

    async def _use(self, connection: Connection) -> None:
        """Reads and writes until the connection is lost, which raises Refused."""
        self._spawn(self._write(connection))
        try:
            async for message in connection.messages():
                self._patience.reset()
                self._take_in(message)
        finally:
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            connection.abort()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, lost: Refused) -> Connection:
        """The next connection of this session, or of a new one where the server no longer has this."""
        assert self.welcome is not None
        while True:
            await self._patience.wait(lost)
            try:
                connection = await Connection.open(self._target, self.welcome.session)
            except Refused as refused:
                lost = refused
            else:
                self._begin(connection)
                return connection

    def _begin(self, connection: Connection) -> None:
        """Lets what has to be said again on this connection be said, in the order of the numbers."""
        self._connection, self.welcome = connection, connection.welcome
        limits = connection.welcome.limits
        for room, share in ((self._room, 3), (self._attach_room, 1)):
            room.allow(max(limits.requests * share // 4, 1), limits.request_bytes * share // 4)
        if connection.welcome.resumed:
            self._acks = self._unconfirmed()
        else:
            self._acks = {}
            self._fail_what_may_be_done()
        self._acks_sent = {}
        for request in self._attaches.values():
            request.on_end()
        self._attaches = {}
        self._first_here = self._number + 1
        self._unsent = deque(self._requests.values())
        for inbox in self._inboxes.values():
            self._spawn(self._attach_again(inbox))
        self._news.set()

    def _unconfirmed(self) -> dict[str, int]:
        """What was read, and of which no answer shows that the server knows it."""
        sent = {inferlet: number for inferlet, (number, _) in self._acks_sent.items()}
        return sent | self._acks

    def _fail_what_may_be_done(self) -> None:
        """Fails the requests that another session must not do again."""
        for number, request in [*self._requests.items()]:
            if not request.call.idempotent:
                asked = request.call.message["type"]
                why = f"the server lost the session before it answered; whether `{asked}` was done is not known"
                del self._requests[number]
                request.fail(SessionLost(why))

    async def _attach_again(self, inbox: Inbox) -> None:
        """Takes the events of an inferlet on this connection, behind those that came."""
        if inbox.end_came:
            return
        call = calls.attach(inbox.inferlet, inbox.received)
        try:
            await (await self._submit(call, lambda _: None, self._attach_room, self._attaches))
        except RequestError as error:
            self.forget(inbox.inferlet, InstanceLost(f"no more events of {inbox.inferlet}: {error}"))

    async def _write(self, connection: Connection) -> None:
        """Says what there is to say: acknowledgements first, which are short and let programs go on."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._acks or self._unsent:
                await self._acknowledge(connection)
                if self._unsent:
                    await connection.send(self._unsent.popleft().frame)

    async def _acknowledge(self, connection: Connection) -> None:
        while self._acks:
            inferlet, number = next(iter(self._acks.items()))
            del self._acks[inferlet]
            self._acks_sent.pop(inferlet, None)
            self._acks_sent[inferlet] = (number, self._number + 1)
            await connection.send(encode({"type": "acknowledge", "inferlet": inferlet, "number": number}))

    def _take_in(self, message: Fields) -> None:
        """Takes in what the server said. What this client does not know is left out: a later server may say more."""
        match message.text("type"):
            case "event":
                if inbox := self._inboxes.get(message.text("inferlet")):
                    inbox.put(message.count("number"), message.fields("event"))
            case "answer":
                number = message.count("request")
                if request := self._request(number):
                    self._answered(request, request.answer(message.fields("answer")))
                    self._done(number)
            case "error":
                number = message.count("request")
                if request := self._request(number):
                    request.fail(read_failure(message.fields("error")))
                    self._done(number)

    def _request(self, number: int) -> Request[Any] | None:
        return self._requests.get(number) or self._attaches.get(number)

    def _answered(self, request: Request[Any], value: object) -> None:
        if not isinstance(value, Inbox):
            return
        if request.future.cancelled() and request.call.message["type"] == "launch":
            self.forget(value.inferlet, InstanceLost("its launch was cancelled"))
            self._spawn(self._terminate(value.inferlet))
        elif request.number < self._first_here:
            # Its events belong to the connection that was lost, and do not come on this one by themselves.
            self._spawn(self._attach_again(value))

    async def _terminate(self, inferlet: str) -> None:
        with contextlib.suppress(RequestError):
            await self.call(calls.terminate(inferlet), lambda _: None)

    def _done(self, number: int) -> None:
        """Forgets a request, and what its answer shows to have arrived."""
        request = self._requests.pop(number, None) or self._attaches.pop(number)
        request.on_end()
        while self._acks_sent:
            inferlet, (_, shown_by) = next(iter(self._acks_sent.items()))
            if shown_by > number:
                break
            del self._acks_sent[inferlet]

    def _give_up(self, error: PieError) -> None:
        """Ends all that waits, with this error."""
        self._failure = error
        self._room.refuse_all(error)
        self._attach_room.refuse_all(error)
        for request in self._requests.values():
            request.fail(error)
        self._requests, self._unsent = {}, deque()
        for inferlet in [*self._inboxes]:
            self.forget(inferlet, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs beside the connection, and ends with it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
