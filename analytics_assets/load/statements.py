"""SQL with the same meaning on every warehouse: what exists, and how a table is refilled."""

from collections.abc import Iterable, Sequence
from typing import Any

from analytics_assets.load.dialect import SqlClient
from analytics_assets.tables.schema import DATASET, Table, comments, create_table


def full_name(client: SqlClient, table: Table) -> str:
    """Database, schema and table as written in a query."""
    return str(client.make_qualified_table_name(table.name, quote=False))


def columns(client: SqlClient, query: str) -> list[tuple[str, Any]]:
    """Name and type of each column that `query` returns; fetches no rows."""
    with client.execute_query(f"SELECT * FROM ({query}) AS q LIMIT 0") as cursor:
        return [(name, kind) for name, kind, *_ in cursor.description]


def exists(client: SqlClient, name: str) -> bool:
    """Whether the dataset has a table or view of this name."""
    # In capitals, because BigQuery is case-sensitive here.
    found = client.execute_sql(
        "SELECT 1 FROM INFORMATION_SCHEMA.TABLES WHERE table_schema = ? AND table_name = ?",
        *map(client.capabilities.casefold_identifier, (DATASET, name)),
    )
    return bool(found)


def make_dataset(client: SqlClient) -> None:
    """Create the dataset if it does not exist."""
    if not client.has_dataset():
        client.create_dataset()
        client.close_connection()  # a connection of DuckDB goes to the dataset only if that is there from the start
        client.open_connection()


def comment(client: SqlClient, table: Table) -> None:
    """Write the declared descriptions of `table` and its columns into the warehouse."""
    client.execute_sql("; ".join(comments(table)))  # one call, which is faster


def make(client: SqlClient, table: Table) -> None:
    """Create the table if it does not exist, and add the columns that it lacks."""
    client.execute_sql(create_table(table))
    there = {name for name, _ in columns(client, f"SELECT * FROM {table.name}")}
    for column in table.columns:
        if client.capabilities.casefold_identifier(column.name) not in there:
            client.execute_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {column.type.sql}")
    comment(client, table)


def insert(client: SqlClient, table: Table, **row: Any) -> None:
    """Add a row to `table`. Nulls are left out, because BigQuery's driver takes no null as a parameter."""
    given = {name: value for name, value in row.items() if value is not None}
    names = ", ".join(f'"{name}"' for name in given)
    client.execute_sql(f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(given))})", *given.values())


def insert_ids(client: SqlClient, table: Table, ids: Iterable[Sequence[str]], **others: Any) -> None:
    """Add a row to `table` per id, with the same `others`; `ids` are in lists, each of which is one statement."""
    names = ", ".join(f'"{name}"' for name in ("id", *others))
    for some in ids:
        values = ", ".join([f"({', '.join('?' * (1 + len(others)))})"] * len(some))
        parameters = [value for key in some for value in (key, *others.values())]
        client.execute_sql(f"INSERT INTO {table.name} ({names}) VALUES {values}", *parameters)


def index(client: SqlClient, table: str, column: str) -> None:
    """On Postgres, create an index of the column if it does not exist; elsewhere a scan is as fast."""
    if client.is_postgres:
        client.execute_sql(f"CREATE INDEX IF NOT EXISTS {table}_{column} ON {table} ({column})")


def make_view(client: SqlClient, view: Table, query: str) -> None:
    """Create or replace `view` with what `query` returns.

    A view that already returns it is left alone: replacing it would wait for readers, and make new readers wait.
    """
    as_it_is = f"SELECT * FROM {view.name}"
    with client.begin_transaction():
        there = exists(client, view.name)
        if there and columns(client, as_it_is) != columns(client, query):
            client.execute_sql(f"DROP VIEW {view.name}")
            there = False
        if not (there and _same_rows(client, as_it_is, query)):
            client.execute_sql(f"CREATE OR REPLACE VIEW {view.name} AS {query}")
        client.execute_sql("; ".join(comments(view, "VIEW")))


def _same_rows(client: SqlClient, one: str, other: str) -> bool:
    """Whether two queries with the same columns return the same set of rows."""
    differing = f"({one} EXCEPT {other}) UNION ALL ({other} EXCEPT {one})"
    return not client.execute_sql(f"SELECT 1 FROM ({differing}) AS d LIMIT 1")


def refill(client: SqlClient, table: Table, query: str) -> None:
    """Fill `table` with what `query` returns, in one transaction: a reader sees the old rows or the new ones.

    The table is created again only when its columns change, so grants and views of others stay.
    """
    names = ", ".join(column.name for column in table.columns)
    with client.begin_transaction():
        there = exists(client, table.name)
        if there and columns(client, f"SELECT * FROM {table.name}") != columns(client, query):
            client.execute_sql(f"DROP TABLE {table.name}")
            there = False
        if there:
            client.execute_sql(f"DELETE FROM {table.name} WHERE true")  # BigQuery requires a condition
            client.execute_sql(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM ({query}) AS q")
        else:
            client.execute_sql(f"CREATE TABLE {table.name} AS SELECT {names} FROM ({query}) AS q")
        comment(client, table)
