"""The client: programs and inferlets of one user on one server."""

import asyncio
import json
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import calls
from .address import session_address
from .connection import Target
from .errors import AuthenticationError, PieError
from .fields import Fields
from .instance import Instance
from .records import DescribedProgram, ListedInferlet, ListedProgram, Usage, Welcome
from .session import Session
from .upload import Progress, upload

Program = bytes | str | os.PathLike[str]
"""A WebAssembly component: its bytes, or the path of its file."""

RECONNECT_S = 60.0
"""As long as a server keeps a session by default."""


def nothing(_answer: Fields) -> None:
    """The value of an answer that says no more than that something is done."""


def argument_list(arguments: Sequence[str]) -> list[str]:
    """The arguments of a program. A text is a sequence too, of its characters, which nobody means."""
    if isinstance(arguments, str):
        raise TypeError(f"the arguments are the text {arguments!r}; expected a list of texts: shlex.split makes one")
    return list(arguments)


class PieClient:
    """A session with a server, for all that one program does there.

    `async with PieClient("ws://127.0.0.1:8080") as client:` connects, and ends the session at its end: inferlets that
    it launched end with it, unless they are detached. A connection that is lost meanwhile is made again, and nothing is
    lost or doubled by that.

    A client belongs to the event loop in which it was entered. Any number of tasks may use it at once.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        """`address` is that of the server: `ws://127.0.0.1:8080`, `https://pie.example.com`.

        `key` is one of `pie key add`, for servers that have keys. `tls` has certificates to trust beside those of the
        system. `reconnect_s` is for how many seconds a lost connection is tried to be made again; 0 is not at all.

        Raises ValueError for an address that is none, and for `tls` beside one that is not encrypted.
        """
        self._target = Target(session_address(address), key, tls)
        if tls is not None and self._target.tls_context() is None:
            raise ValueError(
                f"`{address}` is not encrypted, and `tls` is given; expected an address of `https` or `wss`"
            )
        self._reconnect_s = reconnect_s
        self._session = Session(self._target, reconnect_s)
        self._refused: AuthenticationError | None = None

    async def __aenter__(self) -> Self:
        """Connects. Where the server needs a key and none was given, `authenticate` has to come first.

        Raises ConnectionLost where no server answers.
        """
        self._session, self._refused = Session(self._target, self._reconnect_s), None
        try:
            await self._session.open()
        except AuthenticationError as refused:
            if self._target.key is not None:
                raise
            self._refused = refused
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def authenticate(self, token: str) -> None:
        """Goes on as the user of a key, in a new session: `PieClient(address, key=token)` saves that.

        Raises AuthenticationError where the server does not take it, and PieError where there are inferlets already.
        """
        if token == self._target.key:
            return
        if self._session.attached:
            raise PieError("there are inferlets of another session; authenticate before launching any")
        target = Target(self._target.address, token, self._target.tls)
        session = Session(target, self._reconnect_s)
        await session.open()
        await self._session.close()
        self._target, self._session, self._refused = target, session, None

    @property
    def welcome(self) -> Welcome:
        """Who the server is, as whom it sees this client, and its limits. Raises PieError without a session."""
        welcome = self._open().welcome
        if welcome is None:
            raise PieError("there is no session yet; a client is used within `async with PieClient(...) as client:`")
        return welcome

    # Programs.

    async def program_exists(self, program_hash: str) -> bool:
        """Whether the server has the program of this hash (BLAKE3, `program_hash` of this package)."""
        return await self._open().call(calls.find(program_hash), lambda fields: fields.flag("known"))

    async def upload_program(self, program: Program, progress: Progress | None = None) -> str:
        """Uploads a program, if the server does not have it, and gives its hash, by which it is launched.

        `progress(bytes_there, bytes_of_all)` is called before the first part and after each. The last part takes
        seconds, in which the server compiles the program. What was uploaded stays, also when the server is started
        again.

        Raises RequestError with the code `invalid-program` for what is no component, and `limit-exceeded`.
        """
        data = program if isinstance(program, bytes) else await asyncio.to_thread(Path(program).read_bytes)
        return await upload(self._open(), data, progress)

    async def install_program(self, program_hash: str, name: str) -> None:
        """Gives an uploaded program a name, `NAME@VERSION`."""
        await self._open().call(calls.install(program_hash, name), nothing)

    async def remove_program(self, program: str) -> None:
        """Takes a name `NAME@VERSION` away, or by its hash a program with all its names. What runs goes on."""
        await self._open().call(calls.remove(program), nothing)

    async def list_programs(self) -> list[ListedProgram]:
        """The programs that can be launched."""
        read = ListedProgram.read
        return await self._open().call(calls.programs(), lambda fields: [read(p) for p in fields.items("programs")])

    async def describe_program(self, program: str) -> DescribedProgram:
        """What a program says of itself: what it does, and what it can be given."""
        return await self._open().call(calls.describe(program), DescribedProgram.read)

    # Inferlets.

    async def launch_instance(self, program: str, arguments: Sequence[str] = ()) -> Instance:
        """Starts a program, by its hash or by a name: one of the server's, `NAME@VERSION`, or `NAME` for the version
        that was installed last. It ends with this client, unless it is detached from.

        Raises RequestError with the code `unknown-program`, `program-not-allowed`, `limit-exceeded` or `rate-limited`.
        """
        session = self._open()
        call = calls.launch(program, argument_list(arguments), detached=False)
        return Instance(session, await session.call(call, lambda fields: session.adopt(fields.text("inferlet"), 0)))

    async def launch_detached(self, program: str, arguments: Sequence[str] = ()) -> str:
        """Starts a program that goes on without this client, and gives its id for `attach_instance`."""
        call = calls.launch(program, argument_list(arguments), detached=True)
        return await self._open().call(call, lambda fields: fields.text("inferlet"))

    async def launch_server_instance(self, program: str, port: int, arguments: Sequence[str] = ()) -> None:
        """Sessions do not open ports: the operator does, so this raises PieError, which says how."""
        raise PieError(
            f"a client does not open ports on a server; its operator does: `pie serve --serve {port}={program}` "
            "(docs/config.md)"
        )

    async def run(self, program: str, arguments: Sequence[str] = ()) -> str:
        """Runs a program to its end, and gives what it returned. Raises InferletFailed where it returned nothing."""
        async with await self.launch_instance(program, arguments) as instance:
            return await instance.result()

    async def attach_instance(self, instance_id: str, after: int | None = None) -> Instance:
        """Takes the events of an inferlet of this user, those first that are kept.

        `instance_id` may be a beginning that no other has. With `after` the events begin behind that number; some
        behind it may be gone, which raises RequestError with the code `events-gone`.
        Attaching to one inferlet more than once gives instances that share its events.
        """
        session = self._open()
        call = calls.attach(instance_id, after)
        inbox = await session.call(
            call, lambda fields: session.adopt(fields.text("inferlet"), fields.count("next") - 1)
        )
        return Instance(session, inbox)

    async def list_instances(self) -> list[ListedInferlet]:
        """The inferlets of this user: those that run or wait, and those that have ended and whose events are kept."""
        read = ListedInferlet.read
        return await self._open().call(calls.inferlets(), lambda fields: [read(i) for i in fields.items("inferlets")])

    async def signal_instance(self, instance_id: str, message: str | bytes) -> None:
        """Sends an inferlet a message, as `Instance.send` does, also without being attached."""
        await self._open().call(calls.send(instance_id, message), nothing)

    async def terminate_instance(self, instance_id: str) -> None:
        """Ends an inferlet of this user, whatever it does; `instance_id` may be a beginning that no other has."""
        await self._open().call(calls.terminate(instance_id), nothing)

    # The server.

    async def query(self, subject: str, record: str = "") -> str:
        """Answers the questions of the paper's artifact with a text: `program_exists` with a hash as its record is
        `true` or `false`, and `model_status` is what `stats` gives, as JSON."""
        match subject:
            case "program_exists":
                return json.dumps(await self.program_exists(record))
            case "model_status":
                return json.dumps(await self.stats())
            case _:
                raise ValueError(f"no subject `{subject}`; expected `program_exists` or `model_status`")

    async def list_pages(self, instance_id: str | None = None) -> Any:
        """Pages of each model's pool that the user's inferlets hold, and the contexts of one of them: `models` of the
        answer `pages` of docs/protocol.md."""
        pages: Any = await self._open().call(calls.pages(instance_id), lambda fields: fields.value("models"))
        return pages

    async def stats(self) -> Any:
        """What `/stats` answers over HTTP. On a server with keys it needs one of `pie key add --admin`."""
        stats: Any = await self._open().call(calls.stats(), lambda fields: fields.value("stats"))
        return stats

    async def usage(self) -> Usage:
        """What this user has taken, and may take."""
        return await self._open().call(calls.usage(), Usage.read)

    def _open(self) -> Session:
        if self._refused:
            raise self._refused
        return self._session
