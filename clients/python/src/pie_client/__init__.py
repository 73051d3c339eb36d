"""Programs on a pie server: upload and launch them, talk with them, watch them.

    async with PieClient("ws://127.0.0.1:8080") as client:
        instance = await client.launch_instance("text-completion", ["--prompt", "Hello"])
        async for text in instance.messages():
            print(text, end="")

`pie_client.sync` has the same without asyncio. The README has more.
"""

from .client import PieClient, Program
from .errors import (
    AuthenticationError,
    ConnectionLost,
    InferletFailed,
    InstanceEnded,
    InstanceLost,
    PieError,
    ProtocolError,
    RequestError,
    SessionLost,
)
from .events import Event, EventKind
from .instance import Instance
from .records import DescribedProgram, Limits, ListedInferlet, ListedProgram, Usage, Used, Welcome
from .upload import Progress, program_hash

__all__ = [
    "AuthenticationError",
    "ConnectionLost",
    "DescribedProgram",
    "Event",
    "EventKind",
    "InferletFailed",
    "Instance",
    "InstanceEnded",
    "InstanceLost",
    "Limits",
    "ListedInferlet",
    "ListedProgram",
    "PieClient",
    "PieError",
    "Program",
    "Progress",
    "ProtocolError",
    "RequestError",
    "SessionLost",
    "Usage",
    "Used",
    "Welcome",
    "program_hash",
]
