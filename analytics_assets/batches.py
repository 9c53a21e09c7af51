"""Pages of JSON rows become typed Arrow batches. It knows neither HTTP nor Dagster, nor how a single value is read."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from analytics_assets import values
from analytics_assets.schema import COUNT, EXTRA_FIELDS, LAST_SEEN_AT, PAGE, TIME, Column, Table, arrow_schema

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
REPORT_SECONDS = 2.0

Row = dict[str, Any]


class UnreadableValue(Exception):
    """A value that is not of its column's type; the message names resource, column and page, never the value."""


@dataclass
class Sync:
    """One reading of one resource: when it started, and what it took so far."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows: int = 0
    pages: int = 0
    calls: int = 0


class Batches:
    """Gathers the pages of one resource, and hands out a batch whenever about `BATCH_ROWS` rows have come together."""

    def __init__(self, table: Table, sync: Sync) -> None:
        self._table = table
        self._sync = sync
        self._rows: list[Row] = []
        self._pages: list[int] = []
        self._handed_out = False
        self._reported = time.monotonic()

    def add(self, rows: Sequence[Row], page: int, last: bool) -> pa.Table | None:
        """Take one page; return a batch if it is full, or the last and there is something, or nothing ever was.

        A resource without rows gives one empty batch, so that its table exists with all its columns.
        """
        self._rows += rows
        self._pages += [page] * len(rows)
        self._sync.rows += len(rows)
        self._sync.pages += 1
        if last or time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            logger.info(
                "%s: %s rows on %s pages read", self._table.name, f"{self._sync.rows:,}", f"{self._sync.pages:,}"
            )
        if not (len(self._rows) >= BATCH_ROWS or (last and (self._rows or not self._handed_out))):
            return None
        batch = typed(self._table, self._rows, self._pages, self._sync.started_at)
        self._rows, self._pages, self._handed_out = [], [], True
        return batch


def typed(table: Table, rows: Sequence[Row], pages: Sequence[int], seen_at: datetime) -> pa.Table:
    """`rows`, each with the page it stood on, as an Arrow table with the schema of `table`.

    Of rows with the same key the last one stays. Raises `UnreadableValue`.
    """
    schema = arrow_schema(table)
    arrays = {
        LAST_SEEN_AT: pa.repeat(pa.scalar(seen_at, TIME.arrow), len(rows)),
        PAGE: pa.array(pages, COUNT.arrow),
        EXTRA_FIELDS: _extra_fields(table, rows),
    }
    for column in table.columns:
        if column.name not in arrays:
            arrays[column.name] = _column(table, column, rows, pages)
    batch = pa.table([arrays[name] for name in schema.names], schema=schema)
    latest = {key: index for index, key in enumerate(batch[table.key].to_pylist())}
    return batch if len(latest) == len(rows) else batch.take(sorted(latest.values()))


def _column(table: Table, column: Column, rows: Sequence[Row], pages: Sequence[int]) -> pa.Array:
    found = [row.get(column.name) for row in rows]
    if column.lifted_from:
        lifted = (_id_in(row.get(column.lifted_from), column.lifted_from) for row in rows)
        found = [inside if value is None else value for value, inside in zip(found, lifted, strict=True)]
    read = values.READERS[column.type]
    try:
        array = read.column(found)
    except values.UNREADABLE:
        array = pa.array([_value(read, value, table, column, page) for value, page in zip(found, pages, strict=True)])
    if array.null_count and not column.nullable:
        page = pages[array.is_null().index(True).as_py()]
        raise UnreadableValue(f"{table.name}: a row on page {page} has no {column.name!r}")
    return array.cast(column.type.arrow)


def _value(read: values.Reader, value: Any, table: Table, column: Column, page: int) -> Any:
    try:
        return None if value is None else read.value(value)
    except values.UNREADABLE:
        reason = f"the value of {column.name!r} in a row on page {page} is no {column.type.label}"
        raise UnreadableValue(f"{table.name}: {reason} ({type(value).__name__})") from None


def _id_in(value: Any, name: str) -> Any:
    """The id of an embedded object, be it `{"id": ...}` or `{<name>: {"id": ...}}`; None where there is none."""
    if isinstance(value, dict) and isinstance(value.get(name), dict):
        value = value[name]
    return value.get("id") if isinstance(value, dict) else None


def _extra_fields(table: Table, rows: Sequence[Row]) -> pa.Array:
    known = {column.name for column in table.columns} - {EXTRA_FIELDS, LAST_SEEN_AT, PAGE}
    extras = ({name: value for name, value in row.items() if name not in known} for row in rows)
    return values.JSONS.column([extra or None for extra in extras])
