"""Fast typing with msgspec structs made from a table's declaration, for pages with nothing odd in them.

Anything odd raises, and `batches` reads the pages value by value; a property test compares the results of both.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics_assets.extract.answer import NULL, Fields, Raw, compact, decoder_of
from analytics_assets.extract.values import READERS
from analytics_assets.tables.schema import (
    BOOLEAN,
    COUNT,
    EMAIL,
    EXTRA_FIELDS,
    ID,
    JSON,
    NUMBER,
    TEXT,
    TIME,
    Table,
    Type,
)

INTEGER = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
TEXTS = (str | None, None)
KINDS: Mapping[Type, tuple[Any, Any]] = {
    ID: (str | INTEGER | None, None),
    TEXT: TEXTS,
    EMAIL: TEXTS,
    JSON: (Raw, NULL),  # as the API spells it, so that no digit is lost
    TIME: (str | float | None, None),
    BOOLEAN: (bool | None, None),
    NUMBER: (float | None, None),
    COUNT: (INTEGER | None, None),
}
ABSENT = Raw(b"")
MOST_LEARNED = 200  # undeclared fields; a server with more invents names
ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # escaped NUL and surrogates


class Structs:
    """Decodes pages of one table, and learns the names of undeclared fields (`learned`) on the way."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [column for column in table.columns if column.name in table.fields]
        self._lifted = {name: _embedded(name) for name in {c.lifted_from for c in self._columns if c.lifted_from}}
        self._build([])

    def decode(self, bodies: Sequence[bytes]) -> list[list[Any]]:
        """The rows of each page. Raises ValueError if a page is odd."""
        if any(rb"\u" in body and ODD.search(body) for body in bodies):
            raise ValueError("the pages must be read value by value")
        bodies = [*map(compact, bodies)]
        known = None
        while known is not self._decoder:  # rows decoded before a field was learned lack it
            known = self._decoder
            pages = [self._decoded(body) for body in bodies]
        return pages

    def columns(self, rows: Sequence[Any]) -> dict[str, pa.Array]:
        """The columns of the API's fields, and `EXTRA_FIELDS`. Raises ValueError, TypeError or Arrow's errors."""
        names = [*(column.name for column in self._columns), *self.learned]
        found = dict(zip(names, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True))
        arrays = {}
        for column in self._columns:
            values: Sequence[Any] = found[column.name]
            if column.lifted_from:
                values = self._ids_in(column.lifted_from, found[column.lifted_from], values)
            read = _json(values) if column.type is JSON else READERS[column.type].column(values)
            arrays[column.name] = read.cast(column.type.arrow)
        return arrays | {EXTRA_FIELDS: _object({name: found[name] for name in self.learned}, len(rows))}

    def _decoded(self, body: bytes) -> Any:
        try:
            return self._decoder.decode(body).data.rows
        except msgspec.ValidationError:
            known = {*self._table.fields, *self.learned}
            plain = decoder_of(self._table.name, Fields)
            new = {name for row in plain.decode(body).data.rows for name in row if name not in known}
            if not new or len(new) + len(self.learned) > MOST_LEARNED:
                raise
            self._build(sorted({*self.learned, *new}))
            return self._decoder.decode(body).data.rows

    def _build(self, learned: list[str]) -> None:
        """Read rows with these fields as well. Raises ValueError for a name that msgspec does not accept."""
        names = [*(column.name for column in self._columns), *learned]
        kinds = [*(KINDS[column.type] for column in self._columns), *[(Raw, ABSENT)] * len(learned)]
        fields = [(f"f{index}", *kind) for index, kind in enumerate(kinds)]
        renamed = {f"f{index}": name for index, name in enumerate(names)}
        row = msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=True, rename=renamed)
        self._decoder, self.learned = decoder_of(self._table.name, row), learned

    def _ids_in(self, name: str, objects: Sequence[Raw], own: Sequence[Any]) -> Sequence[Any]:
        """The rows' own ids, or else those of embedded objects, `{"id": ...}` or `{<name>: {"id": ...}}`."""
        embedded = self._lifted[name].decode(b"[" + b",".join(objects) + b"]")
        ids = [one and (one.nested or one).id for one in embedded]
        return [inside if value is None else value for value, inside in zip(own, ids, strict=True)]


def _embedded(name: str) -> msgspec.json.Decoder[Any]:
    key = ("id", *KINDS[ID])
    nested = msgspec.defstruct("Nested", [key], gc=False)
    one = msgspec.defstruct("Embedded", [key, ("nested", nested | None, None)], gc=False, rename={"nested": name})
    return msgspec.json.Decoder(list[one | None])  # type: ignore[valid-type]


def _texts(values: Sequence[Raw]) -> pa.Array:
    """The JSON of values as an Arrow array, built from buffers, since a copy of each value takes twice as long."""
    ends = array("i", accumulate(map(len, values), initial=0))
    texts = pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(values)))
    texts.validate(full=True)  # raises if a value is not UTF-8
    return texts


def _json(values: Sequence[Raw]) -> pa.Array:
    texts = _texts(values)
    return pc.if_else(pc.equal(texts, "null"), None, texts)


def _object(fields: Mapping[str, Sequence[Raw]], rows: int) -> pa.Array:
    """A JSON object per row of the fields that it has, sorted by name; null if it has none."""
    if not fields:
        return pa.nulls(rows, pa.string())
    parts = []
    for name, values in fields.items():
        texts, key = _texts(values), f",{msgspec.json.encode(name).decode()}:"
        parts.append(pc.if_else(pc.equal(texts, ""), "", pc.binary_join_element_wise(key, texts, "")))
    inside = pc.binary_join_element_wise(*parts, "")  # Arrow's "skip" of nulls would drop rows of nulls only
    joined = pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(inside, 1), "}", "")
    return pc.if_else(pc.equal(inside, ""), None, joined)
