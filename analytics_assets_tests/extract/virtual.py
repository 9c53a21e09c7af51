"""Time that passes only while somebody waits for it; and a process that spends a budget in such time.

`python -m analytics_assets_tests.extract.virtual <file or URL> <calls per hour> <burst> <seconds>` prints how many
calls it got.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from pyrate_limiter import AbstractClock

from analytics_assets.extract.budget import Budget, FileStore
from analytics_assets.extract.budget_database import PostgresStore


class TimeIsOver(Exception):
    """Somebody waits beyond the end of the time."""


class Time(AbstractClock):
    """A clock and a way to wait in one; `seconds` are those that have passed."""

    def __init__(self, end: float = float("inf")) -> None:
        self.seconds, self._end = 0.0, end

    def now(self) -> int:
        return 10**12 + round(1000 * self.seconds)

    async def sleep(self, seconds: float) -> None:
        """Have the time pass; raises `TimeIsOver` where that is beyond its end."""
        self.seconds += seconds
        if self.seconds > self._end:
            raise TimeIsOver


async def calls(where: str, an_hour: int, burst: int, end: int) -> int:
    """How many calls one reader that never rests gets until then."""
    store, time, taken = PostgresStore(where) if "://" in where else FileStore(Path(where)), Time(end), 0
    budget = Budget(store, an_hour, burst, time, time.sleep)
    with suppress(TimeIsOver):
        while True:
            await budget.take()
            taken += 1
    return taken


if __name__ == "__main__":
    print(asyncio.run(calls(sys.argv[1], *map(int, sys.argv[2:]))))  # noqa: T201
