"""Arbitrary JSON rows against the batches: nothing raises, nothing is lost, and no value depends on its neighbours."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_assets.batches import typed
from analytics_assets.schema import RESOURCES, arrow_schema

REGISTRATIONS = RESOURCES["registrations"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)

characters = st.characters(codec=None, exclude_categories=())
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats()
    | st.text(characters, max_size=12)
    | st.sampled_from(["", " ", "true", "FALSE", "0", "87.5", "1e3", "nan", "Infinity", "2022-06-08", "20220608"])
    | st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat())
    | st.datetimes().map(lambda time: f"{time:%Y-%m-%d %H:%M:%S} UTC")
    | st.floats(min_value=-1e13, max_value=1e13)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "user", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from([*REGISTRATIONS.fields, *REGISTRATIONS.fields, "unlisted", "_page", "extra_fields"])
ids = st.integers(0, 5) | st.sampled_from(["0", "1", "x"]) | values
rows = st.builds(lambda key, row: {**row, "id": key}, ids, st.dictionaries(names, values, max_size=8))


def read(*some: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The readable rows by id, and the JSON texts of the others."""
    batch, rejected, _ = typed(REGISTRATIONS, some, range(1, len(some) + 1), NOW)
    assert batch.schema == arrow_schema(REGISTRATIONS)
    found = {row["id"]: row for row in batch.to_pylist()}
    assert len(found) == batch.num_rows
    return found, [each.row for each in rejected]


@settings(max_examples=400, deadline=None)
@given(st.lists(rows, max_size=6))
def test_every_row_is_read_or_set_aside(some: list[dict[str, Any]]) -> None:
    """A row is in the table exactly as it would be alone, unless a later one has its id; or it is in the rejects."""
    found, rejected = read(*some)
    expected: dict[str, dict[str, Any]] = {}
    aside: list[str] = []
    for page, row in enumerate(some, 1):
        alone, texts = read(row)
        assert len(alone) + len(texts) == 1
        expected |= {key: {**value, "_page": page} for key, value in alone.items()}
        aside += texts
    assert found == expected
    assert rejected == aside


@settings(max_examples=200, deadline=None)
@given(rows)
def test_a_row_set_aside_is_kept_whole(row: dict[str, Any]) -> None:
    """The JSON text of a row that could not be read has every field, in ASCII."""
    _, rejected = read(row)
    for text in rejected:
        assert text.isascii()
        assert json.loads(text).keys() == row.keys()
