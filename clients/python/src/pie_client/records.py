"""What the server answers with, as values of Python: each class reads itself from the fields of a message."""

from dataclasses import dataclass
from typing import Any, Self

from .errors import RequestError
from .fields import Fields


def read_failure(fields: Fields) -> RequestError:
    """The error in a message."""
    return RequestError(fields.text("code"), fields.text("message"), fields.optional_count("retry_after_ms"))


@dataclass(frozen=True)
class Limits:
    """What the server lets one session do."""

    message_bytes: int
    """Bytes of a message to the server."""
    requests: int
    """Requests without an answer."""
    request_bytes: int
    """Bytes of all requests without an answer."""
    chunk_bytes: int
    """Bytes of a part of an upload."""
    lease_ms: int
    """Milliseconds for which a session without a connection can be resumed."""
    ping_ms: int
    """Milliseconds of silence after which the server pings."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        names = ("message_bytes", "requests", "request_bytes", "chunk_bytes", "lease_ms", "ping_ms")
        return cls(**{name: fields.count(name) for name in names})


@dataclass(frozen=True)
class Welcome:
    """What the server says first."""

    version: int
    """Of the protocol."""
    server: str
    """Name and version of the server."""
    session: str
    """Resumes the session on another connection: as secret as a key."""
    resumed: bool
    """Whether this is the session that was asked for."""
    user: str
    """Whose inferlets this session sees."""
    limits: Limits

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            version=fields.count("version"),
            server=fields.text("server"),
            session=fields.text("session"),
            resumed=fields.flag("resumed"),
            user=fields.text("user"),
            limits=Limits.read(fields.fields("limits")),
        )


@dataclass(frozen=True)
class ListedProgram:
    """A program that can be launched."""

    name: str | None
    """Its name; an uploaded program has one for each `install_program`, and none before."""
    hash: str | None
    """BLAKE3 of its bytes, where the server knows it already."""
    source: str
    """Whose it is: `server` or `user`."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.optional_text("name"), fields.optional_text("hash"), fields.text("source"))


@dataclass(frozen=True)
class DescribedProgram:
    """What is known of a program."""

    hash: str
    """BLAKE3 of its bytes."""
    runs: bool
    """Whether it can be launched; one that cannot answers HTTP requests."""
    manifest: Any
    """What it says of itself, as docs/protocol.md has it: `name`, `version`, `description`, `parameters`. None where it
    says nothing."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.text("hash"), fields.flag("runs"), fields.value("manifest"))


@dataclass(frozen=True)
class ListedInferlet:
    """An inferlet of the user."""

    id: str
    program: str
    """Name of its program, or the beginning of its hash."""
    arguments: list[str]
    """The first of them: long ones are left out."""
    state: str
    """`running`, or `ended` while its last events have not been taken."""
    attachable: bool
    """Whether `attach_instance` can have its events."""
    clients: int
    """Sessions that are attached."""
    age_ms: int
    """Milliseconds since its launch."""
    cpu_ms: int
    """Milliseconds of processor time that it took."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            id=fields.text("id"),
            program=fields.text("program"),
            arguments=fields.texts("arguments"),
            state=fields.text("state"),
            attachable=fields.flag("attachable"),
            clients=fields.count("clients"),
            age_ms=fields.count("age_ms"),
            cpu_ms=fields.count("cpu_ms"),
        )


@dataclass(frozen=True)
class Used:
    """So much of a thing, and the most that may be taken."""

    used: int
    limit: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.count("used"), fields.count("limit"))


@dataclass(frozen=True)
class Usage:
    """What the user has taken."""

    user: str
    inferlets: Used
    """Inferlets that run or wait."""
    memory_bytes: Used
    """Bytes of linear memory."""
    host_memory_bytes: Used
    """Bytes that the server holds for programs."""
    program_bytes: Used
    """Bytes of uploaded programs."""
    programs: Used
    """Uploaded programs."""
    event_bytes: Used
    """Bytes of events that nobody has acknowledged."""
    tokens: int
    """Tokens computed for this key since the server began, those of prompts among them."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            user=fields.text("user"),
            inferlets=Used.read(fields.fields("inferlets")),
            memory_bytes=Used.read(fields.fields("memory_bytes")),
            host_memory_bytes=Used.read(fields.fields("host_memory_bytes")),
            program_bytes=Used.read(fields.fields("program_bytes")),
            programs=Used.read(fields.fields("programs")),
            event_bytes=Used.read(fields.fields("event_bytes")),
            tokens=fields.count("tokens"),
        )
