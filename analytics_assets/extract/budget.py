"""The budget of API calls: a rate per hour and a burst, shared by all processes that use the key.

Its state is in a file in `DLT_DATA_DIR` or, for several machines, in a Postgres database. The algorithm is
pyrate-limiter's token bucket; that library has a store for neither.
"""

import asyncio
import json
import logging
import math
import threading
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pyrate_limiter import Duration, Rate, StateStore, TokenBucket
from pyrate_limiter.clocks import AbstractClock, WallClock

from analytics_assets.extract.budget_database import PostgresStore, check
from analytics_assets.extract.threads import in_thread
from analytics_assets.settings import Settings
from analytics_assets.tables.sync import CLOCK_SECONDS

logger = logging.getLogger(__name__)

BLOCK = 20  # calls that a process takes at once; unused ones are lost when it ends
WORTH_SAYING = 5.0  # a longer wait is logged, in seconds
BUSY_SECONDS = 0.02  # between two attempts to lock the file
State = tuple[float, ...]
_one_budget = threading.Lock()


class Bucket(TokenBucket):
    """A token bucket that counts as full if its state is of the future: a clock was ahead when it was written.

    No call would be sent until that time.
    """

    def step(self, rates: list[Rate], state: State, now: int, weight: int) -> tuple[State, Any]:
        latest = (1000.0 * (now + rate.burst * rate.interval / rate.limit) for rate in rates)  # in microseconds
        ahead = max(until - most for until, most in zip(state, latest, strict=True)) / 1e6
        if ahead > CLOCK_SECONDS:
            logger.warning("the budget is dated %.0f s in the future: a clock was wrong; it counts as unused", ahead)
            state = self.initial(rates)
        return super().step(rates, state, now, weight)


class FileStore(StateStore):
    """The state of a token bucket in `file`, for the processes of one machine."""

    default_clock = WallClock()

    def __init__(self, file: Path) -> None:
        self._file = file

    def check(self, algorithm: Any, rates: list[Rate], now: int, weight: int) -> Any:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._file}.lock", timeout=0):  # waiting here would block the event loop
            state, decision = algorithm.step(rates, self.read(algorithm, rates), now, weight)
            if decision.allowed:
                fresh = self._file.with_suffix(".new")
                fresh.write_text(json.dumps(state))
                fresh.replace(self._file)  # atomic: a kill leaves the old state
            return decision

    def read(self, algorithm: Any, rates: list[Rate]) -> State:
        initial: State = algorithm.initial(rates)
        try:
            state = tuple(map(float, json.loads(self._file.read_text())))
            return state if len(state) == len(initial) and all(map(math.isfinite, state)) else initial
        except (FileNotFoundError, ValueError, TypeError):  # a power failure may leave an empty file
            return initial

    def reset(self) -> None:
        self._file.unlink(missing_ok=True)


class Budget:
    """A token bucket in `store`: `burst` calls at once, refilled by `an_hour` per hour."""

    def __init__(
        self,
        store: StateStore,
        an_hour: int,
        burst: int,
        clock: AbstractClock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._is_database = store, isinstance(store, PostgresStore)
        self._rates = [Rate(an_hour, Duration.HOUR, burst=burst)]
        self._clock, self._sleep = clock or store.default_clock, sleep
        self._block = min(BLOCK, burst)
        self._bucket = Bucket()
        self._taken = 0
        self._one_thread = threading.Lock()

    async def take(self) -> None:
        """Take one call, and wait if there is none."""
        while not self._take_one():
            try:
                seconds = await in_thread(self._take_block) if self._is_database else self._take_block()
            except Timeout:
                await asyncio.sleep(BUSY_SECONDS)
                continue
            if seconds > WORTH_SAYING:
                rate = f"{self._rates[0].limit:,}"
                logger.info("waiting %.0f s for the budget of %s calls per hour", seconds, rate)
            if seconds:
                await self._sleep(seconds)

    def left(self) -> int:
        """Calls that may be sent now without waiting."""
        state: Any = self._store.read(self._bucket, self._rates)
        spent = self._bucket.consumed(self._rates, state, self._now())
        return max(0, self._rates[0].burst - spent) + self._taken

    def _take_one(self) -> bool:
        """Take a call from the block of this process; False if it is empty, or a thread is asking the store."""
        if not self._one_thread.acquire(blocking=False):
            return False
        try:
            has_one = self._taken > 0
            self._taken -= has_one
            return has_one
        finally:
            self._one_thread.release()

    def _take_block(self) -> float:
        """Take a block of calls if this process has none left; return the seconds to wait, 0 if it has some.

        Raises `Timeout` while another process has locked the store's file.
        """
        with self._one_thread:
            if self._taken:
                return 0
            decision: Any = self._store.check(self._bucket, self._rates, self._now(), self._block)
            if not decision.allowed:
                return (decision.retry_after_ms or 0) / 1000
            self._taken = self._block
            return 0

    def _now(self) -> int:
        now: Any = self._clock.now()
        return int(now)


def budget(settings: Settings) -> Budget:
    """The budget of these settings, one per process."""
    url = settings.api_budget_url.get_secret_value() if settings.api_budget_url else None
    with _one_budget:  # else threads that call this at the same time create a budget each
        return _budget(settings.dlt_data_dir, url, settings.api_calls_per_hour, settings.api_calls_burst)


@lru_cache
def _budget(folder: Path, url: str | None, an_hour: int, burst: int) -> Budget:
    if url:
        check(url)
    store = PostgresStore(url) if url else FileStore(folder / "calls.json")
    return Budget(store, an_hour, burst)
