"""Messages as frames: MessagePack maps in binary frames, which is what this client speaks.

The server accepts the same messages as JSON in text frames and answers in kind, so a text frame is one that nobody
asked for.
"""

import msgpack

from .errors import ProtocolError
from .fields import Fields

Message = dict[str, object]

ENVELOPE_BYTES = 64
"""More than what a request has around its call."""


def encode(message: Message) -> bytes:
    """The frame of a message."""
    frame: bytes = msgpack.packb(message)
    return frame


def encode_request(number: int, call: bytes) -> bytes:
    """The frame of the request with a call that is encoded already: large ones are encoded once."""
    request = encode({"type": "request", "request": number, "call": None})
    # The last value of the map is None, which is one byte; the call takes its place.
    return request[:-1] + call


def decode(frame: bytes | str) -> Fields:
    """The message in a frame.

    A frame that holds none is a ProtocolError. What is inside may not be longer than the frame, so a length that lies
    costs no memory.
    """
    if isinstance(frame, str):
        raise ProtocolError("the server sent a text frame; expected MessagePack in a binary one")
    try:
        value: object = msgpack.unpackb(frame)
    except (ValueError, msgpack.UnpackException) as error:
        found = f"{len(frame)} bytes that are no MessagePack"
        raise ProtocolError(f"the server sent {found}: {error or type(error).__name__}") from error
    return Fields("the message", value)
