"""The budget of API calls: a rate per hour and a burst, shared by all processes that use the key.

Its state is in a file in `DLT_DATA_DIR` or, for several machines, in a Postgres database. The algorithm is
pyrate-limiter's token bucket; that library has a store for neither.
"""

import asyncio
import json
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import dlt
from filelock import FileLock, Timeout
from pyrate_limiter import Duration, Rate, StateStore, TokenBucket
from pyrate_limiter.clocks import AbstractClock, WallClock

from analytics_assets.extract.faults import Fault
from analytics_assets.extract.threads import in_thread
from analytics_assets.settings import Settings, WrongSetting

logger = logging.getLogger(__name__)

BLOCK = 20  # calls that a process takes at once; unused ones are lost when it ends
WORTH_SAYING = 5.0  # a longer wait is logged, in seconds
MOST_SECONDS = 10  # limit on the time of the database
BUSY_SECONDS = 0.02  # between two attempts to lock the file
TABLE = "api_call_budget"
State = tuple[float, ...]
_one_budget = threading.Lock()


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


def check(url: str) -> None:
    """Raise `WrongSetting`, without the URL, if psycopg2 is missing or cannot read the URL.

    A URL that psycopg2 would misread counts as unreadable, because its messages quote everything but the password.
    """
    try:
        import psycopg2.extensions

        parts = psycopg2.extensions.parse_dsn(url)
    except ImportError:
        raise WrongSetting(
            "API_BUDGET_URL needs a driver: python -m pip install -c constraints.txt -e '.[postgres]'"
        ) from None
    except psycopg2.ProgrammingError:
        parts = None
    if parts is None or any("@" in value for name, value in parts.items() if name not in ("user", "password")):
        raise WrongSetting(
            "API_BUDGET_URL cannot be read; see .env.example for its form, and escape @, / and the like in its password"
        )


@contextmanager
def _asking(url: str) -> Iterator[Any]:
    """A cursor in one transaction. The connection ends with it, so that none is open during hours of waiting.

    A database that is unreachable, or takes longer than `MOST_SECONDS`, raises a `Fault` that is retried.
    """
    import psycopg2

    limits = {"connect_timeout": MOST_SECONDS, "tcp_user_timeout": MOST_SECONDS * 1000}
    try:
        with closing(psycopg2.connect(url, **limits)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {MOST_SECONDS * 1000}")  # PgBouncer refuses it as an option
            yield cursor
    except psycopg2.OperationalError as error:
        raise Fault(f"the database of API_BUDGET_URL cannot be queried: {error}".strip(), again=True) from None


class PostgresClock(AbstractClock):
    """The clock of the database, because the clocks of machines differ."""

    def __init__(self, url: str) -> None:
        self._url = url

    def now(self) -> int:
        with _asking(self._url) as cursor:
            cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            return int(cursor.fetchone()[0])


class PostgresStore(StateStore):
    """The state of a token bucket in a Postgres table, for processes on several machines.

    There is one row per token, with a hash of it as the key, because the API limits calls per token.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.default_clock = PostgresClock(url)
        with _asking(url) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(1)")  # else two processes that create the table conflict
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (key text PRIMARY KEY, state text NOT NULL)")

    def check(self, algorithm: Any, rates: list[Rate], now: int, weight: int) -> Any:
        with _asking(self._url) as cursor:
            first = (self._key(), json.dumps(algorithm.initial(rates)))
            cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s) ON CONFLICT DO NOTHING", first)
            cursor.execute(f"SELECT state FROM {TABLE} WHERE key = %s FOR UPDATE", first[:1])
            state, decision = algorithm.step(rates, tuple(json.loads(cursor.fetchone()[0])), now, weight)
            cursor.execute(f"UPDATE {TABLE} SET state = %s WHERE key = %s", (json.dumps(state), first[0]))
            return decision

    def read(self, algorithm: Any, rates: list[Rate]) -> State:
        with _asking(self._url) as cursor:
            cursor.execute(f"SELECT state FROM {TABLE} WHERE key = %s", (self._key(),))
            found = cursor.fetchone()
            return tuple(json.loads(found[0])) if found else algorithm.initial(rates)

    def reset(self) -> None:
        with _asking(self._url) as cursor:
            cursor.execute(f"DELETE FROM {TABLE} WHERE key = %s", (self._key(),))

    @staticmethod
    def _key() -> str:
        return sha256(str(dlt.secrets.get("api_key")).strip().encode()).hexdigest()


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
        self._bucket = TokenBucket()
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
