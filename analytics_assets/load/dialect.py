"""Translates every statement from DuckDB's SQL, in which this project is written, to the warehouse's dialect.

Only the spelling changes. Statements must avoid functions that another warehouse lacks.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import count
from typing import Any

import pyarrow as pa
import sqlglot
import sqlglot.expressions as exp
from dlt.common.destination.dataset import DBApiCursor
from dlt.destinations.sql_client import SqlClientBase
from sqlglot.errors import ErrorLevel

from analytics_assets.tables.schema import OWN

logger = logging.getLogger(__name__)

# A limit of the server's would release the lock. That of a machine that has lost its network ends after two minutes.
UNLIMITED = {
    "idle_in_transaction_session_timeout": 0,
    "tcp_keepalives_idle": 60,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 6,
}
LOCK_SECONDS = 0.1  # between two attempts
STREAMED = 100_000  # rows of a batch
MARK = "\0"  # occurs in no SQL
NO_COMMENTS = ("bigquery", "databricks")  # other syntax; `data_dictionary` has the descriptions


class SqlClient:
    """dlt's SQL client for the warehouse, but for DuckDB's SQL with `?` for a parameter. Table names need no schema."""

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client

    def execute_sql(self, text: str, *parameters: Any) -> Sequence[Sequence[Any]] | None:
        """The rows that a statement returns; None if it returns none, or if `text` has several statements."""
        statements = self._translated(text)
        if len(statements) == 1:
            return self._client.execute_sql(statements[0], *parameters)
        if statements:
            self._client.execute_many(statements)
        return None

    def execute_query(self, text: str) -> AbstractContextManager[DBApiCursor]:
        """A cursor of the database's driver over the result of one statement."""
        [statement] = self._translated(text)
        return self._client.execute_query(statement)

    def stream(self, text: str) -> Iterator[pa.Table]:
        """The result of one statement in batches, in bounded memory."""
        [statement] = self._translated(text)
        if self.is_postgres:
            yield from self._stream_postgres(statement)
            return
        if self._client.capabilities.sqlglot_dialect == OWN:  # dlt's cursor would make a copy, and DuckDB warns of it
            for batch in self._client.native_connection.sql(statement).to_arrow_reader(STREAMED):
                yield pa.Table.from_batches([batch])
            return
        with self._client.execute_query(statement) as cursor:
            yield from cursor.iter_arrow(chunk_size=STREAMED)

    def _stream_postgres(self, statement: str) -> Iterator[pa.Table]:
        """By ADBC, as dlt loads: dlt's cursor would fetch all rows at once."""
        from adbc_driver_postgresql import dbapi

        url = self._client.credentials.to_native_representation()
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET search_path = {self._client.fully_qualified_dataset_name()}")
            cursor.execute(statement)
            yield from (pa.Table.from_batches([batch]) for batch in cursor.fetch_record_batch())

    def lock(self, name: str) -> None:
        """On Postgres, lock `name` until this transaction ends, and wait for one that has locked it.

        Not for the session: a pooler such as PgBouncer would give it to others.
        """
        if not self.is_postgres:
            return
        for what, value in UNLIMITED.items():
            self._client.execute_sql(f"SET LOCAL {what} = {value}")
        for attempt in count():
            if self._client.execute_sql("SELECT 1 WHERE pg_try_advisory_xact_lock(hashtext(%s))", name):
                return
            if attempt == 0:
                logger.info("a run on another machine writes to the warehouse; waiting for it")
            time.sleep(LOCK_SECONDS)  # an interrupt would not end a wait of the server's

    @property
    def is_postgres(self) -> bool:
        return bool(self._client.capabilities.sqlglot_dialect == "postgres")

    def begin_transaction(self) -> AbstractContextManager[Any]:
        """A transaction; none if DDL is not transactional, as on BigQuery and Databricks."""
        can = self._client.capabilities.supports_ddl_transactions
        return self._client.begin_transaction() if can else nullcontext()

    def _translated(self, text: str) -> Sequence[str]:
        own = self._client.capabilities
        return translated(text, own.sqlglot_dialect, own.casefold_identifier)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@lru_cache(maxsize=1024)
def translated(text: str, dialect: str, fold: Callable[[str], str]) -> tuple[str, ...]:
    """The statements of `text` in `dialect`, with `%s` for a parameter (`?`), as dlt expects.

    Names are quoted in the case that `fold` returns, as in tables that dlt creates. Raises
    `sqlglot.errors.UnsupportedError` if sqlglot has no translation.
    """
    if dialect == OWN:
        return (text,)
    trees = [tree for tree in sqlglot.parse(text, dialect=OWN) if tree]
    if dialect in NO_COMMENTS:
        trees = [tree for tree in trees if not isinstance(tree, exp.Comment)]
    return tuple(_translated(tree, dialect, fold) for tree in trees)


def _translated(tree: exp.Expr, dialect: str, fold: Callable[[str], str]) -> str:
    for name in tree.find_all(exp.Identifier):
        name.set("this", fold(name.name))
        name.set("quoted", True)
    parameters = [*tree.find_all(exp.Placeholder)]
    for parameter in parameters:
        parameter.replace(exp.Var(this=MARK))
    text = tree.sql(dialect, unsupported_level=ErrorLevel.RAISE, comments=False)
    # If there are parameters, drivers read any other % as the start of one.
    return text.replace("%", "%%").replace(MARK, "%s") if parameters else text
