"""Converts JSON values to the type of a column. An odd value is read if it can mean only one thing, else refused.

Arrow converts a whole column at once. If it refuses, the column is converted value by value, which accepts more
spellings. Both return the same values.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics_assets.extract.answer import MARK, NULL, Fields, Raw, as_text
from analytics_assets.tables.schema import BOOLEAN, COUNT, EMAIL, ID, JSON, NUMBER, TEXT, TIME, Type

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A number below this is epoch seconds (until the year 5138), one above it milliseconds (since 1973).
LEAST_MILLISECONDS = 100_000_000_000
EPOCH_AS_TEXT = re.compile(r"-?\d{9,}(\.\d+)?")  # shorter ones are dates, such as 20220608
ESCAPED = re.compile(r"\\(u0000|.)")
NUL = {"\\u0000": "\\ufffd"}
NO_VALUE = object()  # stands for JSON that cannot be decoded; no type reads it
UNREADABLE = (pa.ArrowException, TypeError, ValueError, OverflowError, LookupError)


class Reader(NamedTuple):
    """Reads values of one type: a whole column, or a single value that is not null.

    Both raise one of `UNREADABLE` for a value that they cannot read.
    """

    column: Callable[[Sequence[Any]], pa.Array]
    value: Callable[[Any], Any]


def decoded(value: Raw, of_type: Type | None = None) -> Any:
    """The decoded value; the JSON itself for a JSON column, and for a text column if the value is not text."""
    if value == NULL:
        return None
    json = bytes(value)
    try:
        if of_type is JSON or (of_type in (TEXT, EMAIL) and json[:1] != b'"'):
            return _json_text(json.decode())
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return NO_VALUE


def kind(value: Raw) -> str:
    """The kind of a value that cannot be read, as one word for messages."""
    text = as_text(bytes(value))
    what = text.removeprefix(f'"{MARK}')
    kinds = {"{": "dict", "[": "list", '"': "str", "\\": "str"}
    return kinds.get(what[:1], "number" if what == text else "NotANumber")


def as_object(fields: Fields) -> Raw:
    """A JSON object of these fields; null if there are none."""
    return Raw(msgspec.json.encode(fields)) if fields else NULL


def _json_text(text: str) -> str:
    # Like `_without_nul` for escaped NULs; the backslash before the u may itself be escaped.
    return ESCAPED.sub(lambda escape: NUL.get(escape[0], escape[0]), text) if r"\u0000" in text else text


def _without_nul(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("no text")
    return text.replace("\0", "\ufffd")  # Postgres refuses NUL, so no warehouse gets it


def _read_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("an id is text or an integer")
    return _without_nul(str(value))


def _read_number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _read_count(value: Any) -> int:
    count = int(value)
    is_broken = isinstance(value, float) and not value.is_integer()
    if isinstance(value, bool) or is_broken or not -(2**63) <= count < 2**63:
        raise ValueError("no whole number of 64 bits")
    return count


def _read_boolean(value: Any) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]


def _read_time(value: Any) -> datetime | None:
    """The UTC time of ISO 8601 text, or of seconds or milliseconds since 1970; None for blank text."""
    if isinstance(value, str):
        text = value.strip().removesuffix(" UTC")
        if not text:
            return None
        if not EPOCH_AS_TEXT.fullmatch(text):
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    seconds = _read_number(value)
    milliseconds = seconds if abs(seconds) >= LEAST_MILLISECONDS else seconds * 1000
    return EPOCH + timedelta(microseconds=milliseconds * 1000)


def _texts(values: Sequence[Any]) -> pa.Array:
    return pc.replace_substring(pa.array(values, TEXT.arrow), "\0", "\ufffd")


def _ids(values: Sequence[Any]) -> pa.Array:
    return _texts([str(value) if type(value) is int else value for value in values])


def _numbers(values: Sequence[Any]) -> pa.Array:
    array = pa.array(values)
    if pc.all(pc.is_finite(array)).as_py() is False:  # Arrow raises if they are not numbers
        raise ValueError("not all are finite")
    return array


def _times(values: Sequence[Any]) -> pa.Array:
    """Times in several formats, each converted by Arrow; raises for a format that only `_read_time` knows."""
    numbers = _numbers([None if type(value) is str else value for value in values]).cast(pa.float64())
    texts = pa.array([value if type(value) is str else None for value in values], pa.string())
    milliseconds = pc.if_else(pc.less(pc.abs(numbers), LEAST_MILLISECONDS), pc.multiply(numbers, 1000), numbers)
    from_numbers = pc.round(pc.multiply(milliseconds, 1000)).cast(pa.int64()).cast(TIME.arrow)
    from_texts = pc.replace_substring(texts, " UTC", "Z").cast(TIME.arrow)  # anywhere but at the end, the cast fails
    times = pc.coalesce(from_numbers, from_texts)
    pc.min_max(times).as_py()  # raises for years outside 1 to 9999, which datetime lacks
    return times


def _counts(values: Sequence[Any]) -> pa.Array:
    array = pa.array(values)
    if pa.types.is_floating(array.type):  # Arrow would cut off what is behind the point
        raise ValueError("not all are integers")
    return array.cast(COUNT.arrow)


def _booleans(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, BOOLEAN.arrow)


TEXTS = Reader(_texts, _without_nul)
READERS: dict[Type, Reader] = {
    ID: Reader(_ids, _read_id),
    TEXT: TEXTS,
    EMAIL: TEXTS,
    JSON: TEXTS,
    TIME: Reader(_times, _read_time),
    BOOLEAN: Reader(_booleans, _read_boolean),
    NUMBER: Reader(_numbers, _read_number),
    COUNT: Reader(_counts, _read_count),
}
