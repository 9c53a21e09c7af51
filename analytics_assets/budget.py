"""The budget of calls to the API: so many an hour and so many at once, shared by every process on this machine.

What it still allows stands in one file of the Dagster home. The algorithm is pyrate-limiter's token bucket; its own
stores know no file.
"""

import json
import logging
import os
import threading
import time
from functools import lru_cache
from pathlib import Path

from filelock import FileLock
from pyrate_limiter import Duration, Rate, TokenBucket

logger = logging.getLogger(__name__)

BLOCK = 20  # calls that a process takes at once; what it does not use of them is lost when it ends
WORTH_SAYING = 5.0  # seconds


class Budget:
    """A token bucket in `file`: `burst` calls at once, refilled by `an_hour` each hour."""

    def __init__(self, file: Path, an_hour: int, burst: int) -> None:
        self._file = file
        self._rates = [Rate(an_hour, Duration.HOUR, burst=burst)]
        self._block = min(BLOCK, burst)
        self._bucket = TokenBucket()
        self._taken = 0
        self._one_thread = threading.Lock()

    def take(self, giving_up: threading.Event) -> None:
        """Take one call, waiting for it if there is none; returns at once when `giving_up` is set."""
        with self._one_thread:
            while self._taken == 0 and not giving_up.is_set():
                seconds = self._take_block()
                if seconds > WORTH_SAYING:
                    logger.info(
                        "waiting %.0f s for the budget of %s calls an hour", seconds, f"{self._rates[0].limit:,}"
                    )
                giving_up.wait(seconds)
            self._taken = max(0, self._taken - 1)

    def left(self) -> int:
        """Calls that may be sent now without waiting."""
        spent = self._bucket.consumed(self._rates, self._state(), self._now())
        return max(0, self._rates[0].burst - spent) + self._taken

    def _take_block(self) -> float:
        """Take a block of calls if there is one; the seconds until there will be."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._file}.lock"):
            state, decision = self._bucket.step(self._rates, self._state(), self._now(), self._block)
            if not decision.allowed:
                return (decision.retry_after_ms or 0) / 1000
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps(state))
            fresh.replace(self._file)  # in one step: a process that is killed here leaves the old one
            self._taken = self._block
            return 0

    def _state(self) -> tuple[int, ...]:
        if not self._file.exists():
            return tuple(map(int, self._bucket.initial(self._rates)))
        return tuple(json.loads(self._file.read_text()))

    @staticmethod
    def _now() -> int:
        return time.time_ns() // 1_000_000


def budget() -> Budget:
    """The budget as configured (`API_CALLS_PER_HOUR`, `API_CALLS_BURST`), one for the whole process."""
    return _budget(os.environ["DAGSTER_HOME"], os.environ["API_CALLS_PER_HOUR"], os.environ["API_CALLS_BURST"])


@lru_cache
def _budget(home: str, an_hour: str, burst: str) -> Budget:
    return Budget(Path(home) / "calls.json", int(an_hour), int(burst))
