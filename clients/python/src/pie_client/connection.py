"""One WebSocket, from its opening to its end: frames are messages here, and the first two are hello and welcome.

Requests, events and what to do when a connection is lost are the session's (`session.py`).
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.frames import CloseCode

from .codec import Message, decode, encode
from .errors import AuthenticationError, ConnectionLost, ProtocolError, RequestError
from .fields import Fields
from .records import Welcome, read_failure

VERSION = 1
"""Of the protocol."""
EVENT_BYTES = 96 << 20
"""The largest message of a server: an event of 64 MiB, with room to spare."""
OPEN_S = 20.0
"""Seconds for a connection to open, its welcome included."""
PING_S = 20.0
"""Seconds between pings; a server that answers none for twice as long is taken for dead."""
FINAL_CODES = frozenset(("key-revoked", "malformed-message", "message-too-large", "taken-over", "unsupported-version"))
"""Codes of `closing` after which connecting again would end in the same way."""


@dataclass(frozen=True)
class Target:
    """Where to connect, and as whom."""

    address: str
    key: str | None
    tls: ssl.SSLContext | None

    def tls_context(self) -> ssl.SSLContext | None:
        """What an encrypted connection trusts: what the system does, unless it was said."""
        if not self.address.startswith("wss:"):
            return None
        return self.tls or ssl.create_default_context()

    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}


class Refused(Exception):
    """A connection that was not made, or was ended by the server; `retry` is false where trying again is useless."""

    def __init__(self, error: Exception, retry: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry = retry


class Connection:
    """An open connection, behind its welcome."""

    def __init__(self, socket: ClientConnection, welcome: Welcome) -> None:
        self._socket = socket
        self.welcome = welcome

    @classmethod
    async def open(cls, target: Target, session: str | None) -> "Connection":
        """Connects, and resumes the session of this id where one is given.

        Raises Refused.
        """
        try:
            async with asyncio.timeout(OPEN_S):
                socket = await dial(target)
                try:
                    return cls(socket, await greet(socket, session))
                except BaseException:
                    # A connection that may go on elsewhere is not said goodbye to.
                    socket.transport.abort()
                    raise
        except TimeoutError as error:
            why = f"the server at {target.address} did not answer for {OPEN_S:.0f} s"
            raise Refused(ConnectionLost(why), retry=True) from error

    async def send(self, frame: bytes) -> None:
        """Sends a frame, and waits while the server does not take it. A lost connection is for `messages` to tell."""
        try:
            await self._socket.send(frame)
        except ConnectionClosed:
            await self._socket.wait_closed()

    async def messages(self) -> AsyncIterator[Fields]:
        """What the server says, until the connection ends.

        Raises Refused when it has ended, and ProtocolError for what is no message.
        """
        try:
            while True:
                message = decode(await self._socket.recv())
                if message.text("type") == "closing":
                    raise closing(message)
                yield message
        except ConnectionClosed as closed:
            raise Refused(ConnectionLost(f"the connection was lost: {closed}"), retry=True) from closed

    async def close(self) -> bool:
        """Ends the connection and the session with it. Whether the server knows that, with all that was said before."""
        await self._socket.close()
        # 1006 without the server's own closing frame.
        return self._socket.close_code in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)

    def abort(self) -> None:
        """Ends the connection and not the session, as a network that is gone."""
        self._socket.transport.abort()


async def dial(target: Target) -> ClientConnection:
    """The WebSocket, before hello."""
    try:
        return await connect(
            target.address,
            ssl=target.tls_context(),
            additional_headers=target.headers(),
            # What is sent is small or does not compress, and both sides would pay for trying.
            compression=None,
            open_timeout=None,
            ping_interval=PING_S,
            ping_timeout=2 * PING_S,
            max_size=EVENT_BYTES,
        )
    except InvalidStatus as error:
        raise refused_upgrade(target, error.response.status_code, error.response.body) from error
    except InvalidMessage as error:
        # Also what a connection that was cut before its answer looks like.
        raise Refused(ConnectionLost(f"{target.address} answered no upgrade: {error}"), retry=True) from error
    except (InvalidHandshake, InvalidURI, ssl.SSLCertVerificationError) as error:
        raise Refused(ConnectionLost(f"no session at {target.address}: {error}"), retry=False) from error
    except OSError as error:
        raise Refused(ConnectionLost(f"no server at {target.address}: {error}"), retry=True) from error


def refused_upgrade(target: Target, status: int, body: bytes | bytearray) -> Refused:
    """What an answer that is no upgrade means."""
    said = said_in(body)
    if status in (401, 403):
        way_out = "the key was not taken" if target.key else "the server needs a key: `PieClient(address, key=...)`"
        return Refused(AuthenticationError("unauthorized", f"{way_out} (HTTP {status}{said})"), retry=False)
    if status == 404:
        why = f"{target.address} is no session of a pie server (HTTP 404{said}); expected the path `/v1/session`"
        return Refused(ConnectionLost(why), retry=False)
    # Too many connections, or a server that starts or stops.
    return Refused(ConnectionLost(f"{target.address} refused the session: HTTP {status}{said}"), status in (429, 503))


def said_in(body: bytes | bytearray) -> str:
    """The message of an error as the server's routes answer it, behind a colon."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {message}"


async def greet(socket: ClientConnection, session: str | None) -> Welcome:
    """Says hello, and takes the welcome."""
    hello: Message = {"type": "hello", "versions": [VERSION], "client": client_name()}
    if session is not None:
        hello["session"] = session
    try:
        await socket.send(encode(hello))
        answer = decode(await socket.recv())
    except ConnectionClosed as closed:
        raise Refused(ConnectionLost(f"the connection was lost before the welcome: {closed}"), retry=True) from closed
    kind = answer.text("type")
    if kind == "closing":
        raise closing(answer)
    if kind != "welcome":
        raise ProtocolError(f"the server said `{kind}` first; expected `welcome`: is it a pie server?")
    welcome = Welcome.read(answer)
    if welcome.version != VERSION:
        raise ProtocolError(f"the server speaks version {welcome.version} of the protocol; offered was {VERSION}")
    return welcome


def closing(message: Fields) -> Refused:
    """The reason with which the server ends a connection."""
    error: RequestError = read_failure(message.fields("error"))
    return Refused(error, error.code not in FINAL_CODES)


def client_name() -> str:
    """Who this is, for the server's log."""
    try:
        return f"pie-client-python/{version('pie-client')}"
    except PackageNotFoundError:
        # Run from its source, without being installed.
        return "pie-client-python"
