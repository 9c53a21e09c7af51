"""The SQL of this project is DuckDB's; here it becomes that of the warehouse, for every statement that is sent to one.

Here belongs how things are spelled elsewhere. That a statement means the same on every warehouse, who writes it sees
to: no translation can make a function of one out of what another does not have.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import sqlglot
import sqlglot.expressions as exp
from dlt.common.destination.dataset import DBApiCursor
from dlt.destinations.sql_client import SqlClientBase
from sqlglot.errors import ErrorLevel

from analytics_assets.tables.schema import OWN

MARK = "\0"  # stands in no SQL
NO_COMMENTS = ("bigquery", "databricks")  # or in another form; what columns mean, `data_dictionary` says there too


class SqlClient:
    """dlt's SQL client for the warehouse; but it takes DuckDB's SQL, with `?` for a parameter, whatever that speaks.

    It stands in the dataset: table names need no qualifying.
    """

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client

    def execute_sql(self, text: str, *parameters: Any) -> Sequence[Sequence[Any]] | None:
        """The rows that a statement gives; None for one that gives none, and for several."""
        statements = self._translated(text)
        if len(statements) == 1:
            return self._client.execute_sql(statements[0], *parameters)
        if statements:
            self._client.execute_many(statements)
        return None

    def execute_query(self, text: str) -> AbstractContextManager[DBApiCursor]:
        """A cursor of the database's driver over what one statement gives."""
        [statement] = self._translated(text)
        return self._client.execute_query(statement)

    def begin_transaction(self) -> AbstractContextManager[Any]:
        """A transaction; nothing where the warehouse makes no tables in one, as BigQuery and Databricks do not."""
        can = self._client.capabilities.supports_ddl_transactions
        return self._client.begin_transaction() if can else nullcontext()

    def _translated(self, text: str) -> Sequence[str]:
        own = self._client.capabilities
        return translated(text, own.sqlglot_dialect, own.casefold_identifier)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@lru_cache(maxsize=1024)
def translated(text: str, dialect: str, fold: Callable[[str], str]) -> tuple[str, ...]:
    """The statements of `text` in `dialect`, where a parameter (`?`) is `%s`, as dlt takes it for each.

    Names are quoted, in the case that `fold` gives them, in which dlt makes its tables. Raises
    `sqlglot.errors.UnsupportedError` for what is known to have no translation.
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
    # With parameters, drivers take every other per cent sign for the beginning of one.
    return text.replace("%", "%%").replace(MARK, "%s") if parameters else text
