"""Time that passes only while somebody waits for it; and a process that spends a budget in such time.

`python -m analytics_assets_tests.extract.virtual <file or URL> <calls per hour> <burst>` prints how many calls it got.
Before that it prints each wait, in seconds, and reads what the time is after it, so that several share one clock.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from pyrate_limiter import AbstractClock

from analytics_assets.extract.budget import Budget, FileStore
from analytics_assets.extract.budget_database import PostgresStore


class TimeIsOver(Exception):
    """No time comes any more."""


class Time(AbstractClock):
    """A clock and a way to wait in one; `seconds` are those that have passed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return 10**12 + round(1000 * self.seconds)

    async def sleep(self, seconds: float) -> None:
        """Have the time pass."""
        self.seconds += seconds


class SharedTime(Time):
    """A time that whoever started this process gives, after each wait."""

    async def sleep(self, seconds: float) -> None:
        """Say the wait and take the time after it; raises `TimeIsOver` where none comes."""
        print(seconds, flush=True)  # noqa: T201
        time = sys.stdin.readline()
        if not time:
            raise TimeIsOver
        self.seconds = float(time)


async def calls(where: str, an_hour: int, burst: int) -> int:
    """How many calls one reader that never rests gets."""
    store, time, taken = PostgresStore(where) if "://" in where else FileStore(Path(where)), SharedTime(), 0
    budget = Budget(store, an_hour, burst, time, time.sleep)
    with suppress(TimeIsOver):
        while True:
            await budget.take()
            taken += 1
    return taken


if __name__ == "__main__":
    print(asyncio.run(calls(sys.argv[1], *map(int, sys.argv[2:]))))  # noqa: T201
