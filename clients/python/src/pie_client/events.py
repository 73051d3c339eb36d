"""What inferlets say: events, as a program of Python sees them."""

import codecs
from enum import StrEnum
from typing import NamedTuple

from .errors import InferletFailed, ProtocolError, RequestError
from .fields import Fields
from .records import read_failure


class EventKind(StrEnum):
    """What an event is. A kind is equal to its text: `event.kind == "message"`."""

    MESSAGE = "message"
    """A text that the program sent."""
    BLOB = "blob"
    """Bytes that the program sent."""
    STDOUT = "stdout"
    """Text that it wrote to stdout: a part of the stream, not a line."""
    STDERR = "stderr"
    """Text that it wrote to stderr: a part of the stream, not a line."""
    RESULT = "result"
    """What the program returned."""
    ERROR = "error"
    """Why the program returned nothing."""
    TERMINATED = "terminated"
    """The inferlet has ended: `finished`, or the error. Always the last."""


class Event(NamedTuple):
    """One event. It takes itself apart: `kind, value = await instance.recv()`."""

    kind: EventKind
    value: str | bytes
    """Bytes for a blob, text for all others."""

    @property
    def text(self) -> str:
        """The text of an event that is no blob. Raises TypeError for a blob."""
        if isinstance(self.value, bytes):
            raise TypeError(f"a {self.kind} has {len(self.value)} bytes; expected an event with a text")
        return self.value

    @property
    def data(self) -> bytes:
        """The bytes of a blob. Raises TypeError for any other event."""
        if isinstance(self.value, str):
            raise TypeError(f"a {self.kind} has a text; expected a blob")
        return self.value


class EventReader:
    """Turns the events of one inferlet's log into events for its client.

    The bytes of stdout and stderr are cut anywhere, also within a character: the beginning of one is kept until its
    rest comes. What is no UTF-8 becomes U+FFFD.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = {kind: decoder("replace") for kind in (EventKind.STDOUT, EventKind.STDERR)}
        self.result: str | None = None
        """What the program returned, behind its end."""
        self.failure: InferletFailed | None = None
        """Why it returned nothing, behind its end."""

    def read(self, fields: Fields) -> list[Event]:
        """The events that one of the log stands for: one, and behind the last of the log the end."""
        kind = fields.text("type")
        match kind:
            case "text":
                return [Event(EventKind.MESSAGE, fields.text("text"))]
            case "blob":
                return [Event(EventKind.BLOB, fields.blob("data"))]
            case "stdout" | "stderr":
                stream = EventKind(kind)
                return [Event(stream, self._streams[stream].decode(fields.blob("data")))]
            case "result":
                self.result = fields.text("text")
                result = Event(EventKind.RESULT, self.result)
                return [*self._rest(), result, Event(EventKind.TERMINATED, "finished")]
            case "error":
                self.failure = self._failed(read_failure(fields.fields("error")))
                error = Event(EventKind.ERROR, self.failure.message)
                return [*self._rest(), error, Event(EventKind.TERMINATED, str(self.failure))]
            case _:
                raise ProtocolError(f"the server sent an event of the type `{kind}`, which this client does not know")

    def _failed(self, error: RequestError) -> InferletFailed:
        return InferletFailed(error.code, error.message, error.retry_after_ms)

    def _rest(self) -> list[Event]:
        """Halves of characters whose other half never came."""
        rest = [Event(kind, decoder.decode(b"", final=True)) for kind, decoder in self._streams.items()]
        return [event for event in rest if event.value]
