"""How often, and for how long, a lost connection is tried to be made again."""

import asyncio
import random
import time

from .connection import Refused
from .errors import ConnectionLost

FIRST_DELAY_S = 0.05
"""Before the second attempt; it doubles with each that follows."""
LONGEST_DELAY_S = 2.0


class Patience:
    """Attempts come at once, and then more and more slowly. A connection that says nothing is one more attempt."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s` is how long the server may say nothing, from the first loss on."""
        self._limit_s = limit_s
        self._since: float | None = None
        self._delay_s = 0.0

    def reset(self) -> None:
        """The server said something."""
        self._since = None
        self._delay_s = 0.0

    async def wait(self, lost: Refused) -> None:
        """Waits until the next attempt is due. Raises the reason where there is none."""
        if not lost.retry:
            raise lost.error
        now = time.monotonic()
        if self._since is None:
            self._since = now
        left = self._since + self._limit_s - now
        if left <= 0:
            tried = f"tried for {self._limit_s:g} s" if self._limit_s > 0 else "connecting again is turned off"
            raise ConnectionLost(f"{lost.error}; {tried}") from lost.error
        # Clients that lost the same server at the same time do not come back at the same time.
        await asyncio.sleep(min(self._delay_s * random.uniform(0.5, 1.0), left))
        self._delay_s = min(max(FIRST_DELAY_S, self._delay_s * 2), LONGEST_DELAY_S)
