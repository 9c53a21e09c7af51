"""Which rows of a reading differ from those of the warehouse, and which ids it has not brought.

Rows are compared by their hashes in a database of their own, while the warehouse is not locked.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

import duckdb
import pyarrow as pa

from analytics_assets.load import ledger
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.failures import Overtaken, interrupts_heard
from analytics_assets.load.statements import exists
from analytics_assets.tables.bookkeeping import MISSING_IDS
from analytics_assets.tables.schema import CHANGED_AT, CHANGED_IN, DELETED_AT, HASH, arrow_schema, typed_schema
from analytics_assets.tables.sync import Rows, Sync

FEWEST_COMPARED, MOST_COMPARED = 10_000, 100_000  # rows at once; all known ids are looked through each time
MOST_BYTES = 64 << 20

TABLES = """
CREATE TABLE known (id TEXT, hash BIGINT, is_deleted BOOLEAN, is_missing BOOLEAN);
CREATE TABLE came (id TEXT, is_written BOOLEAN);
"""
# Of an id that comes twice, the later row counts, and it is written if the earlier one was.
COMPARE = """
CREATE OR REPLACE TABLE compared AS
SELECT id, position, known.id IS NULL OR known.hash IS DISTINCT FROM latest.hash OR known.is_deleted
    OR again.id IS NOT NULL AS is_written
FROM (SELECT id, max(position) AS position, arg_max(hash, position) AS hash FROM batch GROUP BY id) AS latest
LEFT JOIN known USING (id)
LEFT JOIN (SELECT DISTINCT came.id FROM came SEMI JOIN batch USING (id) WHERE is_written) AS again USING (id)
"""
ABSENT = """
CREATE TABLE absent AS
SELECT id, is_missing FROM known WHERE NOT is_deleted AND NOT EXISTS (SELECT 1 FROM came WHERE came.id = known.id)
"""
ABSENT_COUNTS = """
SELECT (SELECT count(*) FROM absent WHERE NOT is_missing), (SELECT count(*) FROM known WHERE NOT is_deleted)
"""
COUNTS = """
SELECT count(*), count(*) FILTER (WHERE is_written AND known.id IS NULL),
    count(*) FILTER (WHERE is_written AND known.id IS NOT NULL)
FROM (SELECT id, bool_or(is_written) AS is_written FROM came WHERE is_written IS NOT NULL GROUP BY id)
LEFT JOIN known USING (id)
"""


class Reading(Rows, Protocol):
    """The typed rows that a sync reads."""

    sync: Sync


class Changes:
    """The rows of `reading` that are new or changed, or came back after a deletion; `batch` returns them.

    Enter it, and call `look_up` first. What exceeds `memory_limit` is written to `folder`. When there are no more rows,
    `rows`, `added` and `changed` are the numbers of rows that came, and of these that are new and changed.
    """

    def __init__(self, reading: Reading, folder: Path, memory_limit: str) -> None:
        self.table, self.sync, self._reading, self._folder = reading.table, reading.sync, reading, folder
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
        self._database = duckdb.connect()
        self._database.execute(f"SET memory_limit = '{memory_limit}'")
        self._database.execute("SET temp_directory = ?", [str(folder)])
        self._database.execute(TABLES)
        self._known, self._compares, self._has_all_columns, self._has_more = 0, False, False, True
        self._last_loaded = 0
        self._first: pa.Table | None = None
        self.rows = self.added = self.changed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def look_up(self, client: SqlClient) -> None:
        """Copy the ids and hashes of the warehouse. Raises `Overtaken`, and `OtherApi`."""
        ledger.check(client, self.table, self.sync)
        self._last_loaded = ledger.last_loaded(client, self.table)
        self._has_all_columns = ledger.has_all_columns(client, self.table)
        if exists(client, self.table.name):
            name, key = self.table.name, self.table.key
            hashes = f"t.{HASH}" if self._has_all_columns else "CAST(NULL AS BIGINT)"
            known = (
                f"SELECT t.{key} AS id, {hashes} AS hash, t.{DELETED_AT} IS NOT NULL AS is_deleted, "
                f"m.id IS NOT NULL AS is_missing FROM {name} AS t "
                f"LEFT JOIN {MISSING_IDS.name} AS m ON m.id = t.{key} AND m.resource = '{name}'"
            )
            for rows in client.stream(known):
                self._database.register("batch", rows)
                self._database.execute("INSERT INTO known SELECT * FROM batch")
                self._known += rows.num_rows
        self._compares = self._has_all_columns and self._known > 0

    def check(self, client: SqlClient) -> None:
        """Raise `Overtaken` or `OtherApi` if the rows must not be loaded now: others were, maybe by a killed sync."""
        ledger.check(client, self.table, self.sync)
        if ledger.last_loaded(client, self.table) != self._last_loaded:
            raise Overtaken(f"rows of {self.table.name} were loaded while this sync was reading")

    def batch(self) -> tuple[pa.Table | None, bool]:
        """The next rows to write, if there are any, and whether there may be more.

        Without any row, a table that does not exist yet, or lacks a column, gets one batch without rows. Raises
        `TooFewRows` with the last rows, and the errors of the reading.
        """
        if self.is_any():
            rows, self._first = self._first, None
            return rows, self._has_more
        return None, False

    def is_any(self) -> bool:
        """Whether there are rows to write, or columns to create; reads up to the first of them. Raises like `batch`."""
        while self._first is None and self._has_more:
            found, self._has_more = self._group()
            with interrupts_heard():
                written = self._compared(found)
                if not self._has_more:
                    self._finish()
            if written.num_rows or not (self._has_more or self._has_all_columns):
                self._first, self._has_all_columns = self._noted(written), True
        return self._first is not None

    def newly_missing(self) -> Iterator[list[str]]:
        """Ids that have not come, and that the full sync before did not miss, in lists."""
        return self._ids("SELECT id FROM absent WHERE NOT is_missing")

    def found_again(self) -> Iterator[list[str]]:
        """Ids that the sync before missed, and that have come now, in lists."""
        return self._ids("SELECT id FROM known WHERE is_missing AND id IN (SELECT id FROM came)")

    def came(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that have come in a readable row."""
        came = "SELECT DISTINCT id FROM came WHERE is_written IS NOT NULL AND id IN (SELECT unnest(?))"
        return [key for (key,) in self._database.execute(came, [list(ids)]).fetchall()]

    def _group(self) -> tuple[pa.Table, bool]:
        """So many rows that comparing them with all known ones pays."""
        found: list[pa.Table] = [typed_schema(self.table).empty_table()]
        has_more, size = True, min(max(FEWEST_COMPARED, self._known // 4), MOST_COMPARED)
        while has_more and sum(rows.num_rows for rows in found) < size and sum(r.nbytes for r in found) < MOST_BYTES:
            rows, has_more = self._reading.batch()
            found += [] if rows is None else [rows]
        return pa.concat_tables(found), has_more

    def _ids(self, query: str) -> Iterator[list[str]]:
        cursor = self._database.cursor()
        cursor.execute(query)
        while found := cursor.fetchmany(1000):
            yield [key for (key,) in found]

    def _compared(self, rows: pa.Table) -> pa.Table:
        """The rows to write."""
        key = rows[self.table.key]
        if not self._compares:  # every row is written; an id that comes twice is written twice, and dlt keeps one
            self._database.register("batch", pa.table({"id": key}))
            self._database.execute("INSERT INTO came SELECT id, true FROM batch")
            return rows
        batch = pa.table({"id": key, "hash": rows[HASH], "position": pa.array(range(rows.num_rows), pa.int64())})
        self._database.register("batch", batch)
        self._database.execute(COMPARE)
        self._database.execute("INSERT INTO came SELECT id, is_written FROM compared")
        positions = self._database.sql("SELECT position FROM compared WHERE is_written ORDER BY position")
        return rows.take(positions.to_arrow_table()["position"])

    def _finish(self) -> None:
        [(self.rows, self.added, self.changed)] = self._database.execute(COUNTS).fetchall()
        # A row that could not be read is not missing.
        rejected = [rejected.id for rejected in self.sync.rejected if rejected.id is not None]
        self._database.execute("INSERT INTO came SELECT unnest(?), NULL", [rejected])
        if self.sync.window_start is None:
            self._database.execute(ABSENT)
            [(missing, known)] = self._database.execute(ABSENT_COUNTS).fetchall()
            self.sync.check_missing(missing, known)

    def _noted(self, rows: pa.Table) -> pa.Table:
        """The rows with the columns in which a sync notes what it does."""
        schema = arrow_schema(self.table)
        notes = {CHANGED_AT: self.sync.started_at, CHANGED_IN: self.sync.number, DELETED_AT: None}
        for name, value in notes.items():
            field = schema.field(name)
            rows = rows.append_column(field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))
        return rows.select(schema.names).cast(schema)
