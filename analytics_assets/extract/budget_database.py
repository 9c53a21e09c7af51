"""The budget's state in a Postgres database, for processes on several machines."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import Any

import dlt
from pyrate_limiter import Rate, StateStore
from pyrate_limiter.clocks import AbstractClock

from analytics_assets.extract.faults import Fault
from analytics_assets.settings import WrongSetting

MOST_SECONDS = 10  # limit on the time of the database
TABLE = "api_call_budget"
State = tuple[float, ...]


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
