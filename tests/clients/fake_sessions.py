"""A server of sessions that is a script: docs/protocol.md in small, for what a real server does not do on demand.

Its inferlets are coroutines (`PROGRAMS`), their logs are short, and it notes what a client must not do (`faults`):
numbers of requests that do not rise, more of them without an answer than the limits, parts of an upload out of order.
"""

import asyncio
import contextlib
import itertools
from collections import deque

import msgpack
from blake3 import blake3
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# Calls whose answers are not kept.
IDEMPOTENT = ("find", "programs", "describe", "list", "pages", "stats", "usage")


class Refusal(Exception):
    """An error that answers a call."""

    def __init__(self, code, message):
        super().__init__(message)
        self.fields = {"code": code, "message": message}


class Inferlet:
    """A coroutine with a log, which holds no more than `log_events` that nobody has acknowledged."""

    def __init__(self, number, program, arguments, detached, log_events):
        self.id = f"00000000-0000-4000-8000-{number:012d}"
        self.program, self.arguments, self.detached = program, arguments, detached
        self.log, self.log_events = deque(), log_events
        self.last = self.acknowledged = 0
        self.ended = False
        self.received = []
        self.queue = asyncio.Queue(maxsize=8)
        self.changed = asyncio.Condition()
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        try:
            result = await PROGRAMS[self.program](self, *self.arguments)
            await self.write({"type": "result", "text": result})
        except Refusal as refusal:
            await self.write({"type": "error", "error": refusal.fields})
        except asyncio.CancelledError:
            error = {"code": "killed", "message": "somebody ended the inferlet"}
            self._append({"type": "error", "error": error})
        self.ended = True

    async def write(self, event):
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.log) < self.log_events)
        self._append(event)

    def _append(self, event):
        self.last += 1
        self.log.append((self.last, event))
        asyncio.create_task(self._notify())

    async def _notify(self):
        async with self.changed:
            self.changed.notify_all()

    def acknowledge(self, number):
        while self.log and self.log[0][0] <= number:
            self.acknowledged = self.log.popleft()[0]
        asyncio.create_task(self._notify())

    async def text(self, text):
        await self.write({"type": "text", "text": text})

    async def next(self):
        message = await self.queue.get()
        self.received.append(message)
        return message


async def echo(inferlet):
    """Says again what it is told, until `end`."""
    while (message := await inferlet.next()) != "end":
        if isinstance(message, bytes):
            await inferlet.write({"type": "blob", "data": message})
        elif message is None:
            return "no more input"
        else:
            await inferlet.text(message)
    return f"{len(inferlet.received)} messages"


async def count(inferlet, to, _padding=""):
    for number in range(int(to)):
        await inferlet.text(str(number))
    return f"counted to {to}"


async def streams(inferlet):
    """Each kind of event; a character of two bytes is cut, and one never ends."""
    await inferlet.write({"type": "stdout", "data": b"gr\xc3"})
    await inferlet.write({"type": "stderr", "data": b"oh"})
    await inferlet.write({"type": "stdout", "data": b"\xbcn \xe2\x82"})
    await inferlet.text("a text")
    await inferlet.write({"type": "blob", "data": b"\x00\xff"})
    return "all"


async def fail(inferlet, why="no reason"):
    await inferlet.text("before")
    raise Refusal("program-failed", why)


async def wait(inferlet):
    await asyncio.Event().wait()


PROGRAMS = {"echo": echo, "count": count, "streams": streams, "fail": fail, "wait": wait}


class Session:
    """What outlives a connection."""

    def __init__(self, number):
        self.id = f"session-{number}"
        self.answers, self.running, self.highest = {}, {}, 0
        self.attached, self.launched = {}, []
        self.socket = None
        self.pumps = {}

    async def say(self, message):
        with contextlib.suppress(ConnectionClosed):
            if self.socket:
                await self.socket.send(msgpack.packb(message))

    def interrupt(self):
        for pump in self.pumps.values():
            pump.cancel()
        self.pumps, self.socket = {}, None


class FakeServer:
    """Listens on a port of this machine."""

    def __init__(self, log_events=8, limits=None, key=None):
        self.limits = {
            "message_bytes": 1 << 20, "requests": 64, "request_bytes": 4 << 20, "chunk_bytes": 1 << 10,
            "lease_ms": 60_000, "ping_ms": 20_000, **(limits or {}),
        }  # fmt: skip
        self.log_events, self.key = log_events, key
        self.numbers = itertools.count(1)
        self.sessions, self.inferlets, self.programs, self.parts = {}, {}, {}, {}
        self.faults, self.calls, self.most_waiting = [], [], 0
        self.hold = None  # While it is set, calls wait for it.
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self):
        async with serve(self._session, "127.0.0.1", 0, process_request=self._authorize, compression=None) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
            assert self.faults == [], self.faults
        for inferlet in self.inferlets.values():
            inferlet.task.cancel()

    def _authorize(self, connection, request):
        if request.path != "/v1/session":
            return connection.respond(404, "there is nothing here")
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return connection.respond(401, '{"error": {"message": "no such key"}}')
        return None

    def lose_sessions(self):
        """As a server that was started again: what was launched is gone."""
        for session in self.sessions.values():
            if session.socket:
                session.socket.transport.abort()
            session.interrupt()
            for call in session.running.values():
                call.cancel()
        for inferlet in self.inferlets.values():
            inferlet.task.cancel()
        self.sessions, self.inferlets, self.parts = {}, {}, {}

    def cut(self):
        """Every connection is gone."""
        for session in self.sessions.values():
            if session.socket:
                session.socket.transport.abort()

    async def close_all(self, code, message="as the test wants it"):
        """The server ends its connections by itself."""
        for session in list(self.sessions.values()):
            socket = session.socket
            await session.say({"type": "closing", "error": {"code": code, "message": message}})
            if socket:
                await socket.close(1008)

    async def _session(self, socket):
        session = None
        try:
            hello = msgpack.unpackb(await socket.recv())
            if hello["type"] != "hello" or 1 not in hello["versions"]:
                self.faults.append(f"no hello: {hello}")
            session = self.sessions.get(hello.get("session"))
            resumed = session is not None
            if session is None:
                session = Session(next(self.numbers))
                self.sessions[session.id] = session
            elif session.socket:
                session.socket.transport.abort()
            session.interrupt()
            session.socket = socket
            await session.say(
                {
                    "type": "welcome", "version": 1, "server": "fake/1", "session": session.id, "resumed": resumed,
                    "user": "local", "limits": self.limits,
                }
            )  # fmt: skip
            async for frame in socket:
                self._take(session, msgpack.unpackb(frame), len(frame))
        except ConnectionClosed:
            pass
        if session and session.socket is socket:
            session.interrupt()
            if socket.close_code in (1000, 1001):
                self._end(session)

    def _end(self, session):
        self.sessions.pop(session.id, None)
        for inferlet in session.launched:
            inferlet.task.cancel()
            self.inferlets.pop(inferlet.id, None)

    def _take(self, session, message, size):
        if message["type"] == "acknowledge":
            if inferlet := self.inferlets.get(message["inferlet"]):
                if message["number"] > inferlet.last:
                    self.faults.append(f"acknowledged {message['number']} of {inferlet.last} events")
                inferlet.acknowledge(message["number"])
            return
        number, call = message["request"], message["call"]
        if number in session.answers:
            asyncio.create_task(session.say(session.answers[number]))
            return
        if number in session.running:
            return
        if number <= session.highest and call["type"] not in IDEMPOTENT:
            self.faults.append(f"request {number} after {session.highest}: {call['type']}")
        session.highest = max(number, session.highest)
        session.running[number] = asyncio.create_task(self._answer(session, number, call))
        self.most_waiting = max(self.most_waiting, len(session.running))
        if len(session.running) > self.limits["requests"] or size > self.limits["message_bytes"]:
            self.faults.append(f"{len(session.running)} requests without an answer, the last of {size} bytes")

    async def _answer(self, session, number, call):
        self.calls.append(call["type"])
        if self.hold:
            await self.hold.wait()
        try:
            done = getattr(self, "_" + call["type"])(session, call)
            kind, fields = await done if asyncio.iscoroutine(done) else done
            message = {"type": "answer", "request": number, "answer": {"type": kind, **fields}}
        except Refusal as refusal:
            message = {"type": "error", "request": number, "error": refusal.fields}
        if call["type"] not in IDEMPOTENT:
            session.answers[number] = message
        session.running.pop(number, None)
        await session.say(message)
        # Events come behind the answer that lets them come.
        for inferlet in list(session.attached):
            if session.socket and inferlet not in session.pumps and session.attached[inferlet] is not None:
                session.pumps[inferlet] = asyncio.create_task(self._pump(session, inferlet))

    async def _pump(self, session, id):
        inferlet, socket, after = self.inferlets[id], session.socket, session.attached[id]
        # Another connection has to attach anew.
        session.attached[id] = None
        while socket is session.socket:
            async with inferlet.changed:
                await inferlet.changed.wait_for(lambda: inferlet.last > after)
            for number, event in list(inferlet.log):
                if number > after:
                    after = number
                    await session.say({"type": "event", "inferlet": id, "number": number, "event": event})

    def _inferlet(self, call):
        if call["inferlet"] not in self.inferlets:
            raise Refusal("unknown-inferlet", f"no inferlet `{call['inferlet']}`")
        return self.inferlets[call["inferlet"]]

    def _find(self, session, call):
        return "found", {"known": call["hash"] in self.programs}

    def _upload(self, session, call):
        parts = self.parts.setdefault((session.id, call["hash"]), bytearray())
        if call["offset"] != len(parts):
            self.faults.append(f"a part at {call['offset']} behind {len(parts)} bytes")
        if len(call["data"]) > self.limits["chunk_bytes"]:
            self.faults.append(f"a part of {len(call['data'])} bytes")
        parts += call["data"]
        complete = len(parts) == call["bytes"]
        if complete:
            del self.parts[(session.id, call["hash"])]
            if blake3(parts).hexdigest() != call["hash"]:
                raise Refusal("hash-mismatch", "the bytes have another hash")
            self.programs[call["hash"]] = bytes(parts)
        return "received", {"bytes": len(parts), "complete": complete}

    def _launch(self, session, call):
        if call["program"] not in PROGRAMS:
            raise Refusal("unknown-program", f"no program `{call['program']}`")
        detached = call.get("detached", False)
        arguments = call.get("arguments", [])
        inferlet = Inferlet(next(self.numbers), call["program"], arguments, detached, self.log_events)
        self.inferlets[inferlet.id] = inferlet
        if not detached:
            session.attached[inferlet.id] = 0
            session.launched.append(inferlet)
        return "launched", {"inferlet": inferlet.id}

    def _attach(self, session, call):
        inferlet = self._inferlet(call)
        after = call.get("after", inferlet.acknowledged)
        if after < inferlet.acknowledged:
            raise Refusal("events-gone", f"{inferlet.acknowledged} events are gone")
        session.attached[inferlet.id] = after
        if pump := session.pumps.pop(inferlet.id, None):
            pump.cancel()
        return "attached", {"inferlet": inferlet.id, "next": after + 1}

    def _detach(self, session, call):
        inferlet = self._inferlet(call)
        session.attached.pop(inferlet.id, None)
        if pump := session.pumps.pop(inferlet.id, None):
            pump.cancel()
        session.launched = [launched for launched in session.launched if launched is not inferlet]
        return "done", {}

    async def _send(self, session, call):
        message = call["message"]
        await self._inferlet(call).queue.put(message["text"] if message["type"] == "text" else message["data"])
        return "done", {}

    async def _signal(self, session, call):
        await self._inferlet(call).queue.put(None)
        return "done", {}

    def _terminate(self, session, call):
        self._inferlet(call).task.cancel()
        return "done", {}

    def _list(self, session, call):
        listed = [
            {
                "id": inferlet.id, "program": inferlet.program, "arguments": list(inferlet.arguments),
                "state": "ended" if inferlet.ended else "running", "attachable": True, "clients": 1, "age_ms": 1,
                "cpu_ms": 0,
            }
            for inferlet in self.inferlets.values()
        ]  # fmt: skip
        return "inferlets", {"inferlets": listed}
