"""What a client can ask for: one function for each call of docs/protocol.md, which gives its message."""

from dataclasses import dataclass

from .codec import Message


@dataclass(frozen=True)
class Call:
    """A call. The server keeps the answer of one that is not `idempotent`, for a client that lost its connection."""

    message: Message
    answer: str
    idempotent: bool = False


def find(program_hash: str) -> Call:
    return Call({"type": "find", "hash": program_hash}, "found", idempotent=True)


def upload(program_hash: str, size: int, offset: int, data: bytes) -> Call:
    message: Message = {"type": "upload", "hash": program_hash, "bytes": size, "offset": offset, "data": data}
    return Call(message, "received")


def install(program_hash: str, name: str) -> Call:
    return Call({"type": "install", "hash": program_hash, "name": name}, "done")


def remove(program: str) -> Call:
    return Call({"type": "remove", "program": program}, "done")


def programs() -> Call:
    return Call({"type": "programs"}, "programs", idempotent=True)


def describe(program: str) -> Call:
    return Call({"type": "describe", "program": program}, "described", idempotent=True)


def launch(program: str, arguments: list[str], detached: bool) -> Call:
    message: Message = {"type": "launch", "program": program}
    if arguments:
        message["arguments"] = arguments
    if detached:
        message["detached"] = True
    return Call(message, "launched")


def attach(inferlet: str, after: int | None) -> Call:
    message: Message = {"type": "attach", "inferlet": inferlet}
    return Call(message if after is None else {**message, "after": after}, "attached")


def detach(inferlet: str) -> Call:
    return Call({"type": "detach", "inferlet": inferlet}, "done")


def send(inferlet: str, message: str | bytes) -> Call:
    kind: Message = {"type": "text", "text": message} if isinstance(message, str) else {"type": "blob", "data": message}
    return Call({"type": "send", "inferlet": inferlet, "message": kind}, "done")


def end_input(inferlet: str) -> Call:
    return Call({"type": "signal", "inferlet": inferlet, "signal": "end-of-input"}, "done")


def terminate(inferlet: str) -> Call:
    return Call({"type": "terminate", "inferlet": inferlet}, "done")


def inferlets() -> Call:
    return Call({"type": "list"}, "inferlets", idempotent=True)


def pages(inferlet: str | None) -> Call:
    message: Message = {"type": "pages"}
    return Call(message if inferlet is None else {**message, "inferlet": inferlet}, "pages", idempotent=True)


def stats() -> Call:
    return Call({"type": "stats"}, "stats", idempotent=True)


def usage() -> Call:
    return Call({"type": "usage"}, "usage", idempotent=True)
