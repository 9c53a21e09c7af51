"""Pages of JSON rows become typed Arrow batches. It knows neither HTTP nor Dagster.

A column is read whole by Arrow; only where Arrow refuses is the same column read value by value, which also takes what
is odd but readable. Both ways give the same.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from analytics_assets.schema import (
    BOOLEAN,
    COUNT,
    EXTRA_FIELDS,
    JSON,
    LAST_SEEN_AT,
    NUMBER,
    PAGE,
    TEXT,
    TIME,
    Column,
    Table,
    Type,
    arrow_schema,
)

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
REPORT_SECONDS = 2.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A number below this is epoch seconds (until the year 5138), one above it milliseconds (since 1973).
LEAST_MILLISECONDS = 100_000_000_000
EPOCH_AS_TEXT = re.compile(r"-?\d{9,}(\.\d+)?")  # shorter ones are dates, such as 20220608

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
    values = [row.get(column.name) for row in rows]
    if column.lifted_from:
        objects = [row.get(column.lifted_from) for row in rows]
        values = [_id_in(obj) if value is None else value for value, obj in zip(values, objects, strict=True)]
    whole, single = READERS[column.type]
    if column.name == table.key or column.lifted_from:
        whole, single = READERS[TEXT][0], _read_id
    try:
        array = whole(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([_read(single, value, table, column, page) for value, page in zip(values, pages, strict=True)])
    if array.null_count and not column.nullable:
        page = pages[array.is_null().index(True).as_py()]
        raise UnreadableValue(f"{table.name}: a row on page {page} has no {column.name!r}")
    return array.cast(column.type.arrow)


def _read(read: Callable[[Any], Any], value: Any, table: Table, column: Column, page: int) -> Any:
    try:
        return None if value is None else read(value)
    except (ValueError, TypeError, OverflowError, LookupError):
        reason = f"the value of {column.name!r} in a row on page {page} is no {column.type.label}"
        raise UnreadableValue(f"{table.name}: {reason} ({type(value).__name__})") from None


def _id_in(value: Any) -> Any:
    """The id of an embedded object, be it `{"id": ...}` or `{<name>: {"id": ...}}`; None where there is none."""
    if not isinstance(value, dict):
        return None
    inner = next(iter(value.values())) if len(value) == 1 else None
    return inner.get("id") if isinstance(inner, dict) else value.get("id")


def _extra_fields(table: Table, rows: Sequence[Row]) -> pa.Array:
    known = {column.name for column in table.columns}
    extras = ({name: value for name, value in row.items() if name not in known} for row in rows)
    return pa.array([_read_json(extra) if extra else None for extra in extras], JSON.arrow)


def _without_nul(text: str) -> str:
    text.encode()  # a lone surrogate is no text
    return text.replace("\0", "\ufffd")  # Postgres refuses NUL, so no warehouse gets it


def _read_json(value: Any) -> str:
    return _without_nul(orjson.dumps(value).decode())


def _read_text(value: Any) -> str:
    return _without_nul(value) if isinstance(value, str) else _read_json(value)


def _read_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("an id is text or an integer")
    return _without_nul(str(value))


def _read_number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _read_boolean(value: Any) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]


def _read_time(value: Any) -> datetime | None:
    if isinstance(value, str):
        text = value.strip().removesuffix(" UTC")
        if not text:
            return None
        if not EPOCH_AS_TEXT.fullmatch(text):
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        value = float(text)
    seconds = _read_number(value)
    milliseconds = seconds if abs(seconds) >= LEAST_MILLISECONDS else seconds * 1000
    return EPOCH + timedelta(microseconds=round(milliseconds * 1000))


def _texts(values: list[Any]) -> pa.Array:
    return pc.replace_substring(pa.array(values, TEXT.arrow), "\0", "\ufffd")


def _numbers(values: list[Any]) -> pa.Array:
    array = pa.array(values)
    if array.type not in (pa.int64(), pa.float64(), pa.null()) or pc.all(pc.is_finite(array)).as_py() is False:
        raise ValueError("not all are finite numbers")
    return array


def _times(values: list[Any]) -> pa.Array:
    """Times in several formats, each format by Arrow; raises where one is missing here and `_read_time` must help."""
    numbers = pa.array([value if type(value) in (int, float) else None for value in values], pa.float64())
    texts = pa.array([None if type(value) in (int, float) else value for value in values], pa.string())
    milliseconds = pc.if_else(pc.less(pc.abs(numbers), LEAST_MILLISECONDS), pc.multiply(numbers, 1000), numbers)
    from_numbers = pc.round(pc.multiply(milliseconds, 1000)).cast(pa.int64()).cast(TIME.arrow)
    from_texts = pc.replace_substring_regex(texts, " UTC$", "Z").cast(TIME.arrow)
    return pc.coalesce(from_numbers, from_texts)


READERS: dict[Type, tuple[Callable[[list[Any]], pa.Array], Callable[[Any], Any]]] = {
    TEXT: (_texts, _read_text),
    JSON: (lambda values: pa.array([None if v is None else _read_json(v) for v in values], JSON.arrow), _read_json),
    TIME: (_times, _read_time),
    BOOLEAN: (lambda values: pa.array(values, BOOLEAN.arrow), _read_boolean),
    NUMBER: (_numbers, _read_number),
}
