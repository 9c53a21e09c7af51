"""Turns pages into typed Arrow tables: with `structs` if nothing is odd, else value by value, with the same result.

This module decides whether a row is accepted, or rejected with a reason. `values` reads a single value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from analytics_assets.extract import values
from analytics_assets.extract.answer import NULL, Raw, ascii_text, fields, rows
from analytics_assets.extract.row_hash import row_hashes
from analytics_assets.extract.structs import Structs
from analytics_assets.tables.schema import EXTRA_FIELDS, HASH, JSON, PAGE, Column, Table, Type, typed_schema
from analytics_assets.tables.sync import Rejected


class Typed(NamedTuple):
    """Rows as an Arrow table, rows that could not be read, and the names of fields without a column."""

    table: pa.Table
    rejected: list[Rejected]
    extra_fields: set[str]


def typed(structs: Structs, table: Table, bodies: Sequence[bytes], first_page: int) -> Typed:
    """The rows of consecutive pages from `first_page` on. If several rows have the same key, the last one is kept."""
    try:
        return _whole(structs, table, bodies, first_page)
    except (*values.UNREADABLE, RecursionError):
        return value_by_value(table, bodies, first_page)


def _whole(structs: Structs, table: Table, bodies: Sequence[bytes], first_page: int) -> Typed:
    pages = structs.decode(bodies)
    found = [row for page in pages for row in page]
    if not found:
        return Typed(typed_schema(table).empty_table(), [], set())
    arrays = structs.columns(found)
    keys = arrays[table.key]
    if keys.null_count or pc.count_distinct(keys).as_py() < len(keys):
        raise ValueError("a key is missing or occurs twice")
    return Typed(_table(table, arrays, _numbers(pages, first_page)), [], set(structs.learned))


def value_by_value(table: Table, bodies: Sequence[bytes], first_page: int) -> Typed:
    """Like `typed`, but a row that cannot be read is rejected with a reason and affects no other row."""
    pages = [rows(table.name, body) for body in bodies]
    texts, numbers = [row for page in pages for row in page], _numbers(pages, first_page)
    known, problems = zip(*map(fields, texts), strict=True) if texts else ((), ())
    reasons = {index: [problem] for index, problem in enumerate(problems) if problem}
    extras = [{name: row[name] for name in sorted(row.keys() - {*table.fields})} for row in known]
    found: dict[str, Sequence[Raw]] = {name: [row.get(name, NULL) for row in known] for name in table.fields}
    arrays = {
        column.name: _read(column.name, column.type, found[column.name], reasons, _inside(found, column))
        for column in table.columns
        if column.name in found
    }
    arrays[EXTRA_FIELDS] = _read(EXTRA_FIELDS, JSON, [values.as_object(extra) for extra in extras], reasons)
    for index, key in enumerate(found[table.key]):
        if key == NULL and not problems[index]:
            reasons.setdefault(index, []).append(f"there is no {table.key!r}")
    keys = arrays[table.key].to_pylist()
    rejected = [
        Rejected(keys[index], "; ".join(why), numbers[index], ascii_text(texts[index]))
        for index, why in sorted(reasons.items())
    ]
    latest = {key: index for index, key in enumerate(keys) if index not in reasons}
    stay = pa.array(sorted(latest.values()), pa.int64())
    return Typed(_table(table, arrays, numbers, stay), rejected, set().union(*extras))


def _read(
    name: str, of_type: Type, found: Sequence[Raw], reasons: dict[int, list[str]], inside: Sequence[Any] = ()
) -> pa.Array:
    """The column as Arrow. A value that cannot be read becomes null, and the index of its row gets a reason.

    A row without a value gets the one `inside` its embedded object.
    """
    reader, decoded = values.READERS[of_type], [values.decoded(value, of_type) for value in found]
    if inside:
        decoded = [other if own is None else own for own, other in zip(decoded, inside, strict=True)]
    try:
        return reader.column(decoded).cast(of_type.arrow)
    except values.UNREADABLE:
        read: list[Any] = []
        for index, value in enumerate(decoded):
            try:
                read.append(None if value is None else reader.value(value))
            except values.UNREADABLE:
                read.append(None)
                no = "cannot be written as JSON" if of_type is JSON else f"is no {of_type.label}"
                kind = type(value).__name__ if value is not values.NO_VALUE else values.kind(found[index])
                reasons.setdefault(index, []).append(f"{name!r} {no} ({kind})")
        return pa.array(read, of_type.arrow)


def _inside(found: Mapping[str, Sequence[Raw]], column: Column) -> Sequence[Any]:
    """The ids of embedded objects, `{"id": ...}` or `{<name>: {"id": ...}}`; a bare value is the id itself."""
    if (name := column.lifted_from) is None:
        return ()
    objects = [None if (value := values.decoded(one)) is values.NO_VALUE else value for one in found[name]]
    inner = [v[name] if isinstance(v, dict) and isinstance(v.get(name), dict) else v for v in objects]
    return [v.get("id") if isinstance(v, dict) else v for v in inner]


def _numbers(pages: Sequence[Sequence[Any]], first_page: int) -> list[int]:
    """The page number of each row."""
    return [number for number, page in enumerate(pages, first_page) for _ in page]


def _table(table: Table, arrays: dict[str, pa.Array], numbers: list[int], stay: pa.Array | None = None) -> pa.Table:
    """A table of these columns, with all rows or only those with an index in `stay`; others may lack a key."""
    schema = typed_schema(table)
    added = {HASH: row_hashes(table, arrays), PAGE: pa.array(numbers, schema.field(PAGE).type)}
    rows = pa.table([added.get(name, arrays.get(name)) for name in schema.names], schema.names)
    return (rows if stay is None else rows.take(stay)).cast(schema)
