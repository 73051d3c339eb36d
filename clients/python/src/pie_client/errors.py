"""What can go wrong: all of it is a PieError.

PieError
├── ConnectionLost       no connection, and trying again has ended
│   └── SessionLost          there is one again, and the server knows nothing of the session
├── ProtocolError        the server said what the protocol does not have
├── RequestError         the server refused something, with a code
│   ├── AuthenticationError  it refused the key
│   └── InferletFailed       an inferlet ended without a result
├── InstanceLost         the events of an inferlet can not be had any more
└── InstanceEnded        an inferlet was asked for an event after its last
"""


class PieError(Exception):
    """Any error of this package."""


class ConnectionLost(PieError):
    """There is no connection to the server, and the time for connecting again is over."""


class SessionLost(ConnectionLost):
    """The server no longer has the session: it was started again, or the lease was over.

    Whether the request that raises this was done is not known. Other requests go on in a new session.
    """


class ProtocolError(PieError):
    """The server said something that the protocol does not have: a fault of the server, or a version of its own."""


class RequestError(PieError):
    """The server refused something.

    `code` is one of docs/protocol.md, such as `unknown-program`, and never changes its meaning; `message` is for
    people. `retry_after_ms` says when trying again may help, if the server knows.
    """

    def __init__(self, code: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


class AuthenticationError(RequestError):
    """The server needs a key, or did not take the one it was given."""


class InferletFailed(RequestError):
    """An inferlet ended without a result: `code` says how, such as `program-failed` with the program's own message."""


class InstanceLost(PieError):
    """An inferlet's events can not be had any more: its lease is over, or the server was started again."""


class InstanceEnded(PieError):
    """The last event of this inferlet was taken before."""
