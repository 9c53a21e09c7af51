"""Time that passes only while somebody waits for it; and a process that spends a budget in such time.

`python -m analytics_assets_tests.virtual <file or URL> <calls an hour> <burst> <seconds>` prints how many calls it got.
"""

import sys
import threading
from itertools import count
from pathlib import Path

from pyrate_limiter import AbstractClock

from analytics_assets.budget import Budget, FileStore, PostgresStore


class Time(AbstractClock, threading.Event):
    """A clock and an event in one, which is set when its time is over; `seconds` are those that have passed."""

    def __init__(self, end: float = float("inf")) -> None:
        super().__init__()
        self.seconds, self._end = 0.0, end

    def now(self) -> int:
        return 10**12 + round(1000 * self.seconds)

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds += timeout or 0
        return self.is_set()

    def is_set(self) -> bool:
        return self.seconds > self._end


def calls(where: str, an_hour: int, burst: int, end: int) -> int:
    """How many calls one reader that never rests gets until then."""
    store, time = PostgresStore(where) if "://" in where else FileStore(Path(where)), Time(end)
    budget = Budget(store, an_hour, burst, time)
    for taken in count():
        budget.take(time)
        if time.is_set():
            return taken
    raise AssertionError


if __name__ == "__main__":
    print(calls(sys.argv[1], *map(int, sys.argv[2:])))  # noqa: T201
