"""Where the sessions of a server are: the address that a user writes, as the address of a WebSocket."""

from urllib.parse import urlsplit, urlunsplit

PATH = "/v1/session"
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def session_address(address: str) -> str:
    """The address of the WebSocket behind `address`.

    `ws`, `wss`, `http` and `https` are understood; an address without a scheme is one of `ws`, and one without a
    path is that of a server: `127.0.0.1:8080`, `https://pie.example.com` and `ws://127.0.0.1:8080/v1/session` are all
    fine.

    Raises ValueError for what is none of these.
    """
    parts = urlsplit(address if "://" in address else f"ws://{address}")
    if parts.scheme not in SCHEMES:
        expected = ", ".join(SCHEMES)
        raise ValueError(f"the address `{address}` has the scheme `{parts.scheme}`; expected one of {expected}")
    if not parts.hostname:
        raise ValueError(f"the address `{address}` names no host; expected one like `ws://127.0.0.1:8080`")
    if parts.query or parts.fragment:
        raise ValueError(f"the address `{address}` has a query or a fragment; expected scheme, host, port and path")
    if "@" in parts.netloc:
        raise ValueError("the address holds a user name or a password; a key is given as `key=`")
    path = parts.path.rstrip("/")
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path or PATH, "", ""))
