"""Arbitrary answers, typed in both ways: nothing raises, nothing is lost, and no value depends on its neighbours."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_assets.extract import values
from analytics_assets.extract.answer import look
from analytics_assets.extract.batches import Typed, _whole, typed, value_by_value
from analytics_assets.extract.structs import Structs
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import BOOLEAN, COUNT, JSON, NUMBER, TIME, Column, typed_schema
from analytics_assets.tables.sync import Rejected

DECLARED = RESOURCES["registrations"]
# A resource with columns of all types: none of the six has a count so far.
REGISTRATIONS = replace(DECLARED, columns=(*DECLARED.columns, Column("seats", COUNT, "Seats taken.")))
DELETE = "\x7f"  # stands for a byte that may be put in its place
Json = Any  # a token, or a list of such, or an object: a tuple of fields


class Field(NamedTuple):
    """A field of an object: its name is a token."""

    name: str
    value: Json


class Style(NamedTuple):
    """How answers are spelled: what is between tokens, and the bytes that are there for `DELETE`."""

    comma: str
    colon: str
    inside: str
    byte: bytes

    def render(self, value: Json) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Field):
            return f"{value.name}{self.colon}{self.render(value.value)}"
        around = "{}" if isinstance(value, tuple) else "[]"
        return f"{around[0]}{self.inside}{self.comma.join(map(self.render, value))}{self.inside}{around[1]}"

    def body(self, rows: Sequence[Json]) -> bytes:
        """The answer that has these rows."""
        data = (Field(f'"{REGISTRATIONS.name}"', [*rows]),)
        text = self.render((Field('"has_more"', "false"), Field('"data"', data)))
        return text.encode("utf-8", "surrogatepass").replace(DELETE.encode(), self.byte)


def spelled(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Values as tokens, in ASCII or not."""
    return st.builds(lambda value, in_ascii: json.dumps(value, ensure_ascii=in_ascii), strategy, st.booleans())


styles = st.builds(
    lambda gaps, byte: Style(gaps[0], gaps[1], gaps[2], byte),
    st.sampled_from([(",", ":", ""), (", ", ": ", ""), (",\n", " :\t", "\r\n")]),
    st.sampled_from([b"\x7f", b"\xff"]),
)
characters = st.characters(codec=None, exclude_categories=())
strings = st.text(characters, max_size=6) | st.text(st.sampled_from('"\\/\0u0\udcff\ud83d\udc9a\x7f'), max_size=5)
iso_times = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat())
utc_times = st.datetimes(datetime(1000, 1, 1)).map(lambda time: f"{time:%Y-%m-%d %H:%M:%S} UTC")
epochs = st.floats(min_value=-1e13, max_value=1e13)
ODD_STRINGS = [
    "",
    " ",
    "true",
    "FALSE",
    "0",
    "87.5",
    "1e3",
    "nan",
    "Infinity",
    "2022-06-08",
    "20220608",
    "{}",
    "\udcff[",
]
ODD_TOKENS = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-0", "-0.0", "1E+2", "0.10", str(2**64), str(-(2**63))),
    *(r'"\ud83d\ude00"', r'"\ud83d"', r'"\u0000"', r'"\\u0000"', r'"\/"', r'"\udcffNaN"', f'"{DELETE}["', r'"\u0031"'),
    *(f'"{DELETE}"', '"NaN"', '"null"', "12345678901234567890.123456789012345678901234567890"),
]
tokens = spelled(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats()
    | strings
    | st.sampled_from(ODD_STRINGS)
    | iso_times
    | utc_times
    | epochs
) | st.sampled_from(ODD_TOKENS)
inner_names = st.sampled_from(['"id"', '"user"', '"content"', '"x"', r'"\u0069d"'])


def objects(names: st.SearchStrategy[str], inner: st.SearchStrategy[Json], most: int) -> st.SearchStrategy[Json]:
    """Objects, in which names may come twice."""
    return st.lists(st.builds(Field, names, inner), max_size=most).map(tuple)


anything = st.recursive(
    tokens, lambda inner: st.lists(inner, max_size=3) | objects(inner_names, inner, 3), max_leaves=4
)
declared = st.sampled_from([json.dumps(name) for name in REGISTRATIONS.fields])
ODD_NAMES = ['""', '"a b"', r'"\u0061"', '"é"', r'"\u00e9"', r'"a\"b"', r'"\\"', r'"\n"', r'"\u0000"', r'"\ud800"']
undeclared = st.sampled_from(['"unlisted"', '"_page"', '"extra_fields"', '"f0"', '"Row"', *ODD_NAMES]) | spelled(
    strings
)
ids = spelled(st.integers(0, 5) | st.sampled_from(["0", "1", "x"])) | anything
odd_rows = st.builds(
    lambda key, row: (*row, Field('"id"', key)), ids, objects(declared | declared | undeclared, anything, 4)
) | objects(declared | undeclared, anything, 3)
rows_of_any_kind = odd_rows | odd_rows | odd_rows | anything


def plain(most: str) -> st.SearchStrategy[str]:
    """Texts of characters up to that one."""
    return st.text(st.characters(codec="utf-8", exclude_characters="\0", max_codepoint=ord(most)), max_size=5)


texts = spelled(plain("\uffff")) | plain("\U0010ffff").map(lambda text: json.dumps(text, ensure_ascii=False))
numbers = spelled(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
tidy_names = st.sampled_from(['"unlisted"', '"grade"', '"_page"', '"extra_fields"', '"f0"', '"é"', '"a b"', '""'])
tidy_tokens = spelled(st.none() | st.booleans() | st.integers(-(10**30), 10**30)) | texts | numbers
tidy_json = st.recursive(
    tidy_tokens, lambda inner: st.lists(inner, max_size=3) | objects(inner_names, inner, 3), max_leaves=3
)
tidy_ids = spelled(st.integers(-(2**63), 2**63 - 1)) | texts
lifted = st.builds(
    lambda key, more: (Field('"id"', key), *more), tidy_ids, objects(st.sampled_from(['"x"', '"email"']), tidy_json, 2)
)
OF_TYPE: dict[Any, st.SearchStrategy[Json]] = {
    TIME: spelled(iso_times | utc_times | epochs | st.integers(0, 2 * 10**12)),
    BOOLEAN: spelled(st.booleans()),
    NUMBER: numbers,
    COUNT: spelled(st.integers(-(2**63), 2**63 - 1)),
    JSON: lifted | st.builds(lambda name, one: (Field(name, one),), st.sampled_from(['"user"', '"content"']), lifted),
}


def tidy_pair(column: Column) -> st.SearchStrategy[Field]:
    """A field and a value as they should be."""
    value = st.just("null") | (tidy_ids if column.lifted_from else OF_TYPE.get(column.type, texts))
    return st.builds(Field, st.just(json.dumps(column.name)), value)


pairs = st.one_of([tidy_pair(c) for c in REGISTRATIONS.columns[1:] if c.name in REGISTRATIONS.fields])
tidy_rows = st.builds(
    lambda key, row, extra: (*row, Field('"id"', key), *extra),
    tidy_ids,
    st.lists(pairs, max_size=4),
    objects(tidy_names, tidy_json, 2),
)


def bodies_of(rows: st.SearchStrategy[Json]) -> st.SearchStrategy[list[bytes]]:
    """Some pages of such rows."""
    pages = st.lists(st.lists(rows, max_size=2), min_size=1, max_size=3)
    return st.builds(lambda style, pages: [style.body(page) for page in pages], styles, pages)


def exactly(found: Typed) -> tuple[str, list[Rejected], set[str]]:
    """All of it to be compared: of numbers the sign, too, of texts each character."""
    assert found.table.schema == typed_schema(REGISTRATIONS)
    found.table.validate(full=True)
    return (repr(found.table.to_pylist()), found.rejected, found.extra_fields)


def is_fast(bodies: list[bytes], structs: Structs) -> bool:
    """Type the pages in both ways, which must give the same; whether the fast one did it, and did not refuse."""
    careful = exactly(value_by_value(REGISTRATIONS, bodies, 7))
    try:
        assert exactly(_whole(structs, REGISTRATIONS, bodies, 7)) == careful
    except values.UNREADABLE:
        return False
    return True


ORDINARY: dict[str, list[dict[str, Any]]] = {
    "no rows": [],
    "ids of two kinds": [{"id": 1}, {"id": "a"}, {"id": "2"}],
    "fields that only some rows have": [{"id": 1, "score": 1, "grade": "A"}, {"id": 2, "tags": ["x"]}, {"id": 3}],
    "nulls": [{"id": 1, "score": None, "user": None, "grade": None}],
    "both nestings": [{"id": 1, "user": {"id": 7}, "content": {"content": {"id": "c", "title": "t"}}}],
    "numbers of two kinds": [{"id": 1, "score": 87, "created_at": 1654700344000}, {"id": 2, "score": 87.5}],
    "times of three kinds": [
        {"id": 1, "created_at": "2022-06-08T14:59:04Z", "due_at": "2022-06-08 14:59:04 UTC"},
        {"id": 2, "created_at": 1654700344000, "due_at": 1654700344.5},
    ],
    "large integers": [{"id": 1, "grade": 10**30, "user": {"id": 2, "points": 2**64}}],
}


@pytest.mark.parametrize("rows", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "with blanks"])
def test_ordinary_pages_are_read_in_the_fast_way(rows: list[dict[str, Any]], separators: tuple[str, str]) -> None:
    """What an API does every day costs no page the fast way."""
    body = json.dumps({"has_more": False, "data": {REGISTRATIONS.name: rows}}, separators=separators).encode()
    assert is_fast([body], Structs(REGISTRATIONS))


def test_both_ways_give_the_same() -> None:
    """Pages as they should be are typed the same in the fast way and value by value; most of them in the fast way."""
    ways = Counter[bool]()

    @settings(max_examples=600, deadline=None)
    @given(bodies_of(tidy_rows))
    def same(bodies: list[bytes]) -> None:
        ways[is_fast(bodies, Structs(REGISTRATIONS))] += 1

    same()
    assert ways[True] > 2 * ways[False]


def test_both_ways_give_the_same_of_odd_pages() -> None:
    """So are pages with rows of any kind, and some of these, too, can be read in the fast way."""
    ways = Counter[bool]()

    @settings(max_examples=900, deadline=None)
    @given(bodies_of(rows_of_any_kind) | bodies_of(tidy_rows | odd_rows))
    def same(bodies: list[bytes]) -> None:
        ways[is_fast(bodies, Structs(REGISTRATIONS))] += 1

    same()
    assert ways[True] > 40


@settings(max_examples=120, deadline=None)
@given(st.lists(bodies_of(tidy_rows | rows_of_any_kind), min_size=2, max_size=3))
def test_what_came_before_changes_nothing(batches: list[list[bytes]]) -> None:
    """Batches are typed as if each were the first, also where those before had other fields that have no column."""
    structs, fields = Structs(REGISTRATIONS), set[str]()
    for bodies in batches:
        table, rejected, extra_fields = exactly(value_by_value(REGISTRATIONS, bodies, 7))
        found = exactly(typed(structs, REGISTRATIONS, bodies, 7))
        fields |= extra_fields
        assert found[:2] == (table, rejected)
        assert extra_fields <= found[2] <= fields


def read(*bodies: bytes, first_page: int = 1) -> tuple[dict[str, str], list[Rejected]]:
    """The readable rows by id, and the others."""
    batch, rejected, _ = typed(Structs(REGISTRATIONS), REGISTRATIONS, bodies, first_page)
    found = {row["id"]: repr(row) for row in batch.to_pylist()}
    assert len(found) == batch.num_rows
    return found, rejected


@settings(max_examples=200, deadline=None)
@given(styles, st.lists(rows_of_any_kind, max_size=4), st.integers(0, 4))
def test_every_row_is_read_or_set_aside(style: Style, rows: list[Json], split: int) -> None:
    """A row is in the table exactly as it would be alone, unless a later one has its id; or it is in the rejects."""
    found, rejected = read(style.body(rows[:split]), style.body(rows[split:]))
    expected: dict[str, str] = {}
    aside: list[Rejected] = []
    for index, row in enumerate(rows):
        alone, others = read(style.body([row]), first_page=1 if index < split else 2)
        assert len(alone) + len(others) == 1
        expected |= alone
        aside += others
    assert found == expected
    assert rejected == aside


@settings(max_examples=200, deadline=None)
@given(styles, odd_rows)
def test_a_row_set_aside_is_kept_whole(style: Style, row: Json) -> None:
    """The JSON text of a row that could not be read has every field, in ASCII; and what tells pages apart sees it."""
    body = style.body([row])
    assert len(look(REGISTRATIONS.name, body, "here").ids) == 1
    for rejected in read(body)[1]:
        assert rejected.row.isascii()
        for (name, _), field in zip(json.loads(rejected.row, object_pairs_hook=list), row, strict=True):
            assert name == json.loads(field.name) or not field.name.isascii() or DELETE in field.name
