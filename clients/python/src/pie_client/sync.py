"""The client without asyncio: the same classes with the same calls, which wait.

    from pie_client.sync import PieClient

    with PieClient("ws://127.0.0.1:8080") as client:
        instance = client.launch_instance("text-completion", ["--prompt", "Hello"])
        for text in instance.messages():
            print(text, end="")

Each client has a thread with an event loop, in which the asyncio one runs. Any number of threads may use a client at
once.
"""

import ssl
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from . import client as aio
from .client import RECONNECT_S, Program
from .errors import InstanceEnded
from .events import Event, EventKind
from .instance import Instance as AsyncInstance
from .portal import Portal
from .records import DescribedProgram, ListedInferlet, ListedProgram, Usage, Welcome
from .upload import Progress

T = TypeVar("T")


class Instance:
    """A running inferlet; see `pie_client.Instance`, whose calls these are."""

    def __init__(self, portal: Portal, instance: AsyncInstance) -> None:
        self._portal = portal
        self._instance = instance

    @property
    def instance_id(self) -> str:
        """The id of the inferlet."""
        return self._instance.instance_id

    def recv(self) -> Event:
        """The next event; the last is of the kind `terminated`."""
        return self._portal.call(self._instance.recv())

    def __iter__(self) -> Iterator[Event]:
        """The events that were not taken yet, to the last."""
        while True:
            try:
                yield self.recv()
            except InstanceEnded:
                return

    def messages(self) -> Iterator[str]:
        """The texts that the program sends, until it ends. Raises InferletFailed when that is without a result."""
        for event in self:
            if event.kind is EventKind.MESSAGE:
                yield event.text
        self.result()

    def result(self) -> str:
        """Waits for the end, and gives what the program returned."""
        return self._portal.call(self._instance.result())

    def send(self, message: str | bytes) -> None:
        """Sends a text for the program's `receive`, or bytes for its `receive_blob`."""
        self._portal.call(self._instance.send(message))

    def end_input(self) -> None:
        """Says that no more messages come."""
        self._portal.call(self._instance.end_input())

    def detach(self) -> None:
        """Takes no more events; the inferlet goes on."""
        self._portal.call(self._instance.detach())

    def terminate(self) -> None:
        """Ends the inferlet, whatever it does."""
        self._portal.call(self._instance.terminate())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(self._instance.__aexit__(kind, error, trace))


class PieClient:
    """A session with a server; see `pie_client.PieClient`, whose calls these are."""

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self._client = aio.PieClient(address, key=key, tls=tls, reconnect_s=reconnect_s)
        self._portal: Portal | None = None

    def __enter__(self) -> Self:
        self._portal = Portal()
        try:
            self._call(self._client.__aenter__())
        except BaseException:
            self._portal.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._portal is not None
        try:
            self._call(self._client.__aexit__(kind, error, trace))
        finally:
            self._portal.close()

    @property
    def welcome(self) -> Welcome:
        """Who the server is, as whom it sees this client, and its limits."""
        return self._client.welcome

    def authenticate(self, token: str) -> None:
        """Goes on as the user of a key, in a new session."""
        self._call(self._client.authenticate(token))

    def program_exists(self, program_hash: str) -> bool:
        """Whether the server has the program of this hash."""
        return self._call(self._client.program_exists(program_hash))

    def upload_program(self, program: Program, progress: Progress | None = None) -> str:
        """Uploads a program, if the server does not have it, and gives its hash. Another thread calls `progress`."""
        return self._call(self._client.upload_program(program, progress))

    def install_program(self, program_hash: str, name: str) -> None:
        """Gives an uploaded program a name, `NAME@VERSION`."""
        self._call(self._client.install_program(program_hash, name))

    def remove_program(self, program: str) -> None:
        """Takes a name away, or by its hash a program with all its names."""
        self._call(self._client.remove_program(program))

    def list_programs(self) -> list[ListedProgram]:
        """The programs that can be launched."""
        return self._call(self._client.list_programs())

    def describe_program(self, program: str) -> DescribedProgram:
        """What a program says of itself: what it does, and what it can be given."""
        return self._call(self._client.describe_program(program))

    def launch_instance(self, program: str, arguments: Sequence[str] = ()) -> Instance:
        """Starts a program, by its hash or by a name."""
        return self._instance(self._client.launch_instance(program, arguments))

    def launch_detached(self, program: str, arguments: Sequence[str] = ()) -> str:
        """Starts a program that goes on without this client, and gives its id."""
        return self._call(self._client.launch_detached(program, arguments))

    def launch_server_instance(self, program: str, port: int, arguments: Sequence[str] = ()) -> None:
        """Raises PieError: sessions do not open ports."""
        self._call(self._client.launch_server_instance(program, port, arguments))

    def run(self, program: str, arguments: Sequence[str] = ()) -> str:
        """Runs a program to its end, and gives what it returned."""
        return self._call(self._client.run(program, arguments))

    def attach_instance(self, instance_id: str, after: int | None = None) -> Instance:
        """Takes the events of an inferlet of this user, those first that are kept."""
        return self._instance(self._client.attach_instance(instance_id, after))

    def list_instances(self) -> list[ListedInferlet]:
        """The inferlets of this user."""
        return self._call(self._client.list_instances())

    def signal_instance(self, instance_id: str, message: str | bytes) -> None:
        """Sends an inferlet a message, also without being attached."""
        self._call(self._client.signal_instance(instance_id, message))

    def terminate_instance(self, instance_id: str) -> None:
        """Ends an inferlet of this user, whatever it does."""
        self._call(self._client.terminate_instance(instance_id))

    def query(self, subject: str, record: str = "") -> str:
        """Answers `program_exists` and `model_status` with a text."""
        return self._call(self._client.query(subject, record))

    def list_pages(self, instance_id: str | None = None) -> Any:
        """Pages of each model's pool that the user's inferlets hold, and the contexts of one of them."""
        return self._call(self._client.list_pages(instance_id))

    def stats(self) -> Any:
        """What `/stats` answers over HTTP."""
        return self._call(self._client.stats())

    def usage(self) -> Usage:
        """What this user has taken, and may take."""
        return self._call(self._client.usage())

    def _instance(self, work: Coroutine[Any, Any, AsyncInstance]) -> Instance:
        instance = self._call(work)
        assert self._portal is not None
        return Instance(self._portal, instance)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._portal is None:
            work.close()
            raise RuntimeError("this client is not open; it is used within `with PieClient(...) as client:`")
        return self._portal.call(work)
