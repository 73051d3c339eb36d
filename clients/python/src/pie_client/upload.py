"""A program on its way to the server, in parts."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from . import calls
from .errors import PieError, SessionLost
from .fields import Fields
from .session import Session

Progress = Callable[[int, int], None]
"""Called with the bytes that the server has and the bytes of the program: first with 0, then after each part."""

PARTS_AT_ONCE = 4
"""Parts without an answer: enough that the network does not wait for the answers, and few bytes in memory."""


@dataclass(frozen=True)
class Received:
    """What the server says of a part."""

    bytes: int
    complete: bool

    @classmethod
    def read(cls, fields: Fields) -> "Received":
        return cls(fields.count("bytes"), fields.flag("complete"))


def program_hash(program: bytes) -> str:
    """The name of a program by its bytes: BLAKE3, 64 digits in lower case."""
    return blake3(program).hexdigest()


async def upload(session: Session, program: bytes, progress: Progress | None) -> str:
    """Uploads a program that the server does not have, and gives its hash.

    An upload that lost its session begins anew in the next one, where nothing of it is left.
    """
    if not program:
        raise ValueError("the program is empty; expected the bytes of a WebAssembly component")
    name = await asyncio.to_thread(program_hash, program)
    report = progress or (lambda sent, total: None)
    report(0, len(program))
    if not await session.call(calls.find(name), lambda fields: fields.flag("known")):
        while True:
            try:
                await send_parts(session, name, program, report)
                return name
            except SessionLost:
                continue
    report(len(program), len(program))
    return name


async def send_parts(session: Session, name: str, program: bytes, report: Progress) -> None:
    """Sends the parts in order, a few of them ahead of their answers."""
    assert session.welcome is not None
    size, part = len(program), session.welcome.limits.chunk_bytes
    answers: deque[asyncio.Future[Received]] = deque()
    try:
        for offset in range(0, size, part):
            if len(answers) == PARTS_AT_ONCE:
                received = await answers.popleft()
                report(received.bytes, size)
                if received.complete:
                    # Somebody else had uploaded it by then.
                    return
            call = calls.upload(name, size, offset, program[offset : offset + part])
            answers.append(await session.start(call, Received.read))
        while answers:
            received = await answers.popleft()
            report(received.bytes, size)
        if not received.complete:
            raise PieError(f"the server has {received.bytes} of {size} bytes, and says that is not all")
    finally:
        for answer in answers:
            # Their errors are those of the first.
            answer.cancel()
