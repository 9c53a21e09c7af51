"""Pages of JSON rows become typed Arrow batches. It knows neither HTTP nor Dagster, nor how a single value is read."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from analytics_assets import values
from analytics_assets.schema import (
    DELETED_AT,
    EXTRA_FIELDS,
    JSON,
    LAST_SEEN_AT,
    PAGE,
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
    """Gathers the pages of one resource, and hands out a batch whenever about `BATCH_ROWS` rows have come together.

    Rows are typed as they come, while the processor's cache still has them: a whole batch of them takes a third longer.
    """

    def __init__(self, table: Table, sync: Sync) -> None:
        self._table = table
        self._sync = sync
        self._typed: list[pa.Table] = []
        self._handed_out = False
        self._reported = time.monotonic()

    def add(self, rows: Sequence[Row], pages: Sequence[int], last: bool) -> pa.Table | None:
        """Take some rows, each with its page; return a batch if it is full, or the last, or nothing was there at all.

        A resource without rows gives one empty batch, so that its table exists with all its columns. With the last
        rows comes the verdict over the whole reading: `TooFewRows`, `TooManyRejected`.
        """
        sync = self._sync
        table, rejected, extra_fields = typed(self._table, rows, pages, sync.started_at)
        self._typed.append(table)
        sync.rows += len(rows)
        sync.rejected += rejected
        sync.extra_fields |= extra_fields
        if last or time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            logger.info("%s: %s rows read, %s pages", self._table.name, f"{sync.rows:,}", f"{sync.pages:,}")
        batch, ready = None, sum(table.num_rows for table in self._typed)
        if ready >= BATCH_ROWS or (last and (ready or not self._handed_out)):
            batch = pa.concat_tables(self._typed)
            self._typed, self._handed_out = [], True
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
    if not rows:
        return Typed(arrow_schema(table).empty_table(), [], set())
    reasons: dict[int, list[str]] = {}
    found, extras = _by_field(table, [row if isinstance(row, dict) else {} for row in rows])
    arrays = {
        LAST_SEEN_AT: pa.repeat(seen_at, len(rows)),
        DELETED_AT: pa.nulls(len(rows)),
        PAGE: pa.array(pages),
        EXTRA_FIELDS: _read([extra or None for extra in extras], EXTRA_FIELDS, JSON, reasons),
    }
    for column in table.columns:
        if column.name not in arrays:
            arrays[column.name] = _read(_lifted(found, column), column.name, column.type, reasons)
    for index, key in enumerate(found[table.key]):
        if key is None:
            why = f"there is no {table.key!r}" if isinstance(rows[index], dict) else "it is no object"
            reasons.setdefault(index, []).append(why)
    keys = arrays[table.key].to_pylist()
    rejected = [
        Rejected(keys[index], "; ".join(why), pages[index], _as_text(rows[index]))
        for index, why in sorted(reasons.items())
    ]
    latest = {key: index for index, key in enumerate(keys) if index not in reasons}
    names = [column.name for column in table.columns]
    batch = pa.table([arrays[name] for name in names], names=names)
    if len(latest) < len(rows):
        batch = batch.take(pa.array(sorted(latest.values()), pa.int64()))
    return Typed(batch.cast(arrow_schema(table)), rejected, set().union(*extras))


def _by_field(table: Table, rows: Sequence[Row]) -> tuple[dict[str, Sequence[Any]], list[Row]]:
    """The values of each field that has a column, null where a row lacks it; and for each row its other fields."""
    blank = dict.fromkeys(table.fields)
    completed = [blank | row for row in rows]  # the fields with a column come first in each, in the same order
    found = dict(zip(blank, zip(*map(dict.values, completed), strict=False), strict=False))
    return found, [dict(islice(row.items(), len(blank), None)) for row in completed]


def _lifted(found: Mapping[str, Sequence[Any]], column: Column) -> Sequence[Any]:
    """The values of a column as the API has them, or from the embedded objects that carry them."""
    own, name = found[column.name], column.lifted_from
    if name is None:
        return own
    lifted = _ids_in(found[name], name)
    return [inside if value is None else value for value, inside in zip(own, lifted, strict=True)]


def _read(found: Sequence[Any], name: str, of_type: Type, reasons: dict[int, list[str]]) -> pa.Array:
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
                no = "cannot be written as JSON" if of_type is JSON else f"is no {of_type.label}"
                reasons.setdefault(index, []).append(f"{name!r} {no} ({type(value).__name__})")
        return pa.array(read, of_type.arrow)


def _ids_in(values: Sequence[Any], name: str) -> list[Any]:
    """The ids of embedded objects, be it `{"id": ...}` or `{<name>: {"id": ...}}`; a bare value is the id itself."""
    inner = [v[name] if isinstance(v, dict) and isinstance(v.get(name), dict) else v for v in values]
    return [v.get("id") if isinstance(v, dict) else v for v in inner]


def _as_text(row: Any) -> str:
    """The row as JSON in ASCII; instead of a value that is nested too deep for that, a note that it is."""

    def written(value: Any) -> str:
        try:
            return json.dumps(value, default=str)
        except RecursionError:
            return '"(nested too deep)"'

    if not isinstance(row, dict):
        return written(row)
    return "{" + ", ".join(f"{json.dumps(name)}: {written(value)}" for name, value in row.items()) + "}"
