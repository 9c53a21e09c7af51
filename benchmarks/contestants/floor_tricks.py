"""The floor with every trick that this project knows: no garbage collection, and rows decoded into typed structs.

A field of the API that is not declared here is an error.
"""

import asyncio
import gc
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from benchmarks.contestants import floor
from benchmarks.contestants.clock import task, timed

Raw = msgspec.Raw
TYPES: dict[Any, tuple[Any, Any]] = {
    floor.texts: (str | None, None),
    floor.ids: (str | int | None, None),
    floor.jsons: (Raw, Raw(b"null")),
    floor.numbers: (float | None, None),
    floor.booleans: (bool | None, None),
    floor.times: (str | float | None, None),
}
EXTRA = {
    "users": ["time_zone"],
    "trainings": ["card_banner", "time_estimate_seconds"],
    "registrations": ["enrollment_method", "grading_status"],
    "certifications": ["card_banner"],
    "awarded_certifications": ["certificate_url"],
    "paths_users": [],
}


class Inner(msgspec.Struct, gc=False):
    """An embedded object, or what is embedded in that under its own name once more."""

    id: str | int | None = None
    user: "Inner | None" = None
    content: "Inner | None" = None


def decoder(resource: str) -> Any:
    """Reads an answer with rows of this resource; a field that is absent is null, an undeclared one's text is empty."""
    fields = [
        (name, *TYPES[of]) for name, of in floor.COLUMNS[resource].items() if name not in floor.LIFTED.get(resource, {})
    ]
    extra = [(name, Raw, Raw(b"")) for name in EXTRA[resource]]
    row = msgspec.defstruct("Row", [*fields, *extra], gc=False, forbid_unknown_fields=True)
    data = msgspec.defstruct("Data", [(resource, list[row])], gc=False)  # type: ignore[valid-type]
    return msgspec.json.Decoder(msgspec.defstruct("Answer", [("has_more", bool), ("data", data)], gc=False))


DECODERS = {resource: decoder(resource) for resource in floor.COLUMNS}
INNER = msgspec.json.Decoder(list[Inner | None])


def read(resource: str, body: bytes) -> tuple[Sequence[Any], bool]:
    """The rows of an answer, and whether there are more."""
    answer = DECODERS[resource].decode(body)
    return getattr(answer.data, resource), answer.has_more


def typed(resource: str, rows: Sequence[Any], pages: Sequence[int], seen_at: datetime) -> pa.Table:
    """Rows, each with its page, as the table has them."""
    names = rows[0].__struct_fields__
    values = dict(zip(names, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True))
    for name, outer in floor.LIFTED.get(resource, {}).items():
        objects = INNER.decode(b"[" + b",".join(map(bytes, values[outer])) + b"]")
        values[name] = tuple(found and (getattr(found, outer) or found).id for found in objects)
    extras = zip(*(labelled(name, values[name]) for name in EXTRA[resource]), strict=True)
    texts = [f"{{{','.join(filter(None, row))}}}" if any(row) else None for row in extras] or [None] * len(rows)
    arrays = {
        name: pa.array(map(text, values[name]), pa.string()) if of is floor.jsons else of(values[name])
        for name, of in floor.COLUMNS[resource].items()
    }
    return pa.table(arrays | {"extra_fields": pa.array(texts, pa.string())} | floor.added(pages, seen_at))


def text(raw: msgspec.Raw) -> str | None:
    found = bytes(raw).decode()
    return None if found == "null" else found


def labelled(name: str, raws: Sequence[msgspec.Raw]) -> list[str]:
    return [f'"{name}":{found.decode()}' if (found := bytes(raw)) else "" for raw in raws]


def main() -> None:
    with timed():
        gc.disable()
        asyncio.run(floor.sync(task(), read, typed))


if __name__ == "__main__":
    main()
