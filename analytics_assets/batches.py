"""Pages of JSON rows become typed Arrow batches. It knows neither HTTP nor Dagster, nor how a single value is read."""

import json
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from analytics_assets import values
from analytics_assets.schema import (
    COUNT,
    DELETED_AT,
    EXTRA_FIELDS,
    JSON,
    LAST_SEEN_AT,
    PAGE,
    TIME,
    Column,
    Table,
    Type,
    arrow_schema,
)
from analytics_assets.sync import Rejected, Sync

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
REPORT_SECONDS = 2.0

Row = dict[str, Any]


class Batches:
    """Gathers the pages of one resource, and hands out a batch whenever about `BATCH_ROWS` rows have come together."""

    def __init__(self, table: Table, sync: Sync) -> None:
        self._table = table
        self._sync = sync
        self._rows: list[Row] = []
        self._pages: list[int] = []
        self._handed_out = False
        self._reported = time.monotonic()

    def add(self, rows: Sequence[Row], pages: Sequence[int], last: bool) -> pa.Table | None:
        """Take some rows, each with its page; return a batch if it is full, or the last, or nothing was there at all.

        A resource without rows gives one empty batch, so that its table exists with all its columns. With the last
        rows comes the verdict over the whole reading: `TooFewRows`, `TooManyRejected`.
        """
        sync = self._sync
        self._rows += rows
        self._pages += pages
        sync.rows += len(rows)
        if last or time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            logger.info("%s: %s rows read, %s pages", self._table.name, f"{sync.rows:,}", f"{sync.pages:,}")
        batch = None
        if len(self._rows) >= BATCH_ROWS or (last and (self._rows or not self._handed_out)):
            batch, rejected, extra_fields = typed(self._table, self._rows, self._pages, sync.started_at)
            self._rows, self._pages, self._handed_out = [], [], True
            sync.rejected += rejected
            sync.extra_fields |= extra_fields
            sync.filled |= {name for name in batch.column_names if batch[name].null_count < batch.num_rows}
        if last:
            sync.finish()
        return batch


class Typed(NamedTuple):
    """Rows as an Arrow table, those that could not be read, and the names of fields that have no column."""

    table: pa.Table
    rejected: list[Rejected]
    extra_fields: set[str]


def typed(table: Table, rows: Sequence[Row], pages: Sequence[int], seen_at: datetime) -> Typed:
    """`rows`, each with the page it stood on, with the schema of `table`; of rows with the same key the last stays."""
    reasons: dict[int, list[str]] = {}
    extras = _extra_fields(table, rows)
    arrays = {
        LAST_SEEN_AT: pa.repeat(pa.scalar(seen_at, TIME.arrow), len(rows)),
        DELETED_AT: pa.nulls(len(rows), TIME.arrow),
        PAGE: pa.array(pages, COUNT.arrow),
        EXTRA_FIELDS: _read([extra or None for extra in extras], EXTRA_FIELDS, JSON, reasons),
    }
    for column in table.columns:
        if column.name not in arrays:
            arrays[column.name] = _read(_found(rows, column), column.name, column.type, reasons)
    keys = arrays[table.key].to_pylist()
    for index, key in enumerate(keys):
        if key is None and index not in reasons:
            reasons[index] = [f"there is no {table.key!r}"]
    rejected = [
        Rejected(keys[index], "; ".join(why), pages[index], json.dumps(rows[index], default=str))
        for index, why in sorted(reasons.items())
    ]
    latest = {key: index for index, key in enumerate(keys) if index not in reasons}
    names = [column.name for column in table.columns]
    batch = pa.table([arrays[name] for name in names], names=names)
    if len(latest) < len(rows):
        batch = batch.take(pa.array(sorted(latest.values()), pa.int64()))
    return Typed(batch.cast(arrow_schema(table)), rejected, set().union(*extras))


def _found(rows: Sequence[Row], column: Column) -> list[Any]:
    """The values of a column as the API has them."""
    found = [row.get(column.name) for row in rows]
    if column.lifted_from:
        lifted = (_id_in(row.get(column.lifted_from), column.lifted_from) for row in rows)
        found = [inside if value is None else value for value, inside in zip(found, lifted, strict=True)]
    return found


def _read(found: list[Any], name: str, of_type: Type, reasons: dict[int, list[str]]) -> pa.Array:
    """The column as Arrow; where a value cannot be read it is null, and the row's index gets a reason."""
    reader = values.READERS[of_type]
    try:
        return reader.column(found).cast(of_type.arrow)
    except values.UNREADABLE:
        read: list[Any] = []
        for index, value in enumerate(found):
            try:
                read.append(None if value is None else reader.value(value))
            except values.UNREADABLE:
                read.append(None)
                reasons.setdefault(index, []).append(f"{name!r} is no {of_type.label} ({type(value).__name__})")
        return pa.array(read, of_type.arrow)


def _extra_fields(table: Table, rows: Sequence[Row]) -> list[Row]:
    known = set(table.fields)
    return [{name: value for name, value in row.items() if name not in known} for row in rows]


def _id_in(value: Any, name: str) -> Any:
    """The id of an embedded object, be it `{"id": ...}` or `{<name>: {"id": ...}}`; a bare value is the id itself."""
    if isinstance(value, dict) and isinstance(value.get(name), dict):
        value = value[name]
    return value.get("id") if isinstance(value, dict) else value
