"""The published copy: the DuckDB file that analysts open, because loads lock the warehouse itself.

Its contents follow from the declaration: tables and views without the columns that only loads need, and with personal
data masked if there is a key. A warehouse on a server has no copy.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import duckdb
import sqlglot.expressions as sql

from analytics_assets.load.failures import Unavailable
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.tables.bookkeeping import SYNCS, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import DATASET, EMAIL, UNPUBLISHED, Column, Table, comments, create_table

logger = logging.getLogger(__name__)

TABLES = (*RESOURCES.values(), *HISTORIES.values(), *MARTS.values(), SYNCS)
COPY = "published_copy"  # name of the new database while it is filled
Views = Callable[[Iterable[Table]], Iterable[tuple[Table, str]]]


def publish(warehouse: Warehouse, views: Views, mode: int, key: bytes | None) -> int:
    """Replace the published file by a copy of the warehouse, in one step; return its number of rows.

    `mode` is the file's permission bits. With a `key`, personal data is masked. A program that has the old file open
    keeps reading it.
    """
    file = warehouse.published_file
    assert file
    fresh = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"PUBLISHED_FILE {file} cannot be created ({error.strerror}); name another") from None
    with warehouse.writing() as database:
        assert database
        fresh.unlink(missing_ok=True)  # left by a killed run
        tables, others = list(_tables(database, key)), database.execute(OTHERS_VIEWS, [DATASET]).fetchall()
        try:
            with _attached(database, fresh) as source:
                with _transaction(database):
                    rows = sum(_copy_table(database, source, table, key) for table in tables)
                    for view, query in views(tables):
                        database.execute(f"CREATE VIEW {view.name} AS {query}")
                        for meaning in comments(view, "VIEW"):
                            database.execute(meaning)
                _copy_views(database, others)
            fresh.chmod(mode)
            # A WAL left by a killed program; beside it, DuckDB could not open the new file.
            file.with_name(f"{file.name}.wal").unlink(missing_ok=True)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)
    return rows


HERE = "NOT internal AND schema_name = ? AND database_name = current_database()"
COLUMNS = f"SELECT table_name, column_name FROM duckdb_columns() WHERE {HERE}"
OTHERS_VIEWS = (
    f"SELECT view_name, sql, comment FROM duckdb_views() WHERE {HERE} AND view_name NOT IN {tuple(VIEWS)} "
    "ORDER BY view_oid"
)


def _tables(database: duckdb.DuckDBPyConnection, key: bytes | None) -> Iterator[Table]:
    """The tables to publish, with the columns that exist in the warehouse and, with a key, survive masking."""
    there = set(database.execute(COLUMNS, [DATASET]).fetchall())
    for table in TABLES:
        columns = tuple(c for c in table.columns if (table.name, c.name) in there and c.name not in UNPUBLISHED)
        if key:
            columns = tuple(_masked(c) for c in columns if c.type is EMAIL or not c.personal)
        if columns:
            yield replace(table, columns=columns)


@contextmanager
def _attached(database: duckdb.DuckDBPyConnection, fresh: Path) -> Iterator[str]:
    """Inside, names refer to the new file; yields the qualified name of the warehouse's dataset."""
    [name] = database.execute("SELECT current_database()").fetchone() or [""]
    # The oldest format, which every later version of DuckDB can read.
    path = sql.Literal.string(str(fresh)).sql("duckdb")
    database.execute(f"ATTACH {path} AS {COPY} (STORAGE_VERSION 'v1.0.0')")
    try:
        database.execute(f"CREATE SCHEMA {COPY}.{DATASET}")
        database.execute(f"USE {COPY}.{DATASET}")
        yield f'"{name}".{DATASET}'
    finally:
        database.execute(f'USE "{name}"')
        database.execute(f"DETACH {COPY}")


@contextmanager
def _transaction(database: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction for many statements; on its own, each would wait for the disk."""
    database.begin()
    try:
        yield
    except BaseException:
        database.rollback()
        raise
    database.commit()


def _copy_table(database: duckdb.DuckDBPyConnection, source: str, table: Table, key: bytes | None) -> int:
    """Create and fill one table of the copy, masked if there is a key; return its number of rows."""
    emails = table.names(EMAIL) if key else []
    values = [MASKED.format(f'"{c.name}"') if c.name in emails else f'"{c.name}"' for c in table.columns]
    database.execute(create_table(table))
    select = f"SELECT {', '.join(values)} FROM {source}.{table.name}"
    pads = _pads(key) if key and emails else {}
    [count] = database.execute(f"INSERT INTO {table.name} {select}", pads).fetchone() or [0]
    for comment in comments(table):
        database.execute(comment)
    return int(count)


def _copy_views(database: duckdb.DuckDBPyConnection, views: Sequence[tuple[str, str, str | None]]) -> None:
    """Copy the views that users made in the warehouse, but for those that read something that is not published.

    One that reads another can only be created after it, so those that fail are tried again while any succeeds.
    """
    left = [view for view in views if not _copy_view(database, *view)]
    if left and len(left) < len(views):
        _copy_views(database, left)
        return
    for name, *_ in left:
        logger.warning("the view %s is not published: it reads a table or column that is not in the copy", name)


def _copy_view(database: duckdb.DuckDBPyConnection, name: str, statement: str, comment: str | None) -> bool:
    """Copy a view, and return whether that could be done."""
    try:
        database.execute(statement)
    except duckdb.Error:
        return False
    if comment:
        view, text = sql.to_identifier(name, quoted=True), sql.Literal.string(comment)
        database.execute(sql.Comment(this=view, kind="VIEW", expression=text).sql("duckdb"))
    return True


# HMAC-SHA256 (RFC 2104) of the lower-case address, and its domain if it is an address. DuckDB has no HMAC; one in
# Python would need numpy (73 MB) and 1.2 s of CPU time for 260,000 rows instead of 0.6 s.
MASKED = (
    "left(sha256($outer::BLOB || unhex(sha256($inner::BLOB || encode(lower({0}))))), 32) "
    "|| coalesce('@' || nullif(regexp_extract(lower({0}), '^[^@]+@([a-z0-9-]+(?:[.][a-z0-9-]+)+)$', 1), ''), '')"
)


def _pads(key: bytes) -> dict[str, bytes]:
    """The inner and the outer key of an HMAC; SHA-256 has blocks of 64 bytes."""
    block = (key if len(key) <= 64 else sha256(key).digest()).ljust(64, b"\0")
    return {"inner": bytes(byte ^ 0x36 for byte in block), "outer": bytes(byte ^ 0x5C for byte in block)}


def _masked(column: Column) -> Column:
    if column.type is not EMAIL:
        return column
    note = "Masked: equal addresses stay equal, and the domain is kept."
    return replace(column, description=f"{column.description} {note}")
