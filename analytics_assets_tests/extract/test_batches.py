"""JSON values to typed columns, and pages to batches."""

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from analytics_assets.extract.batches import Typed, typed, value_by_value
from analytics_assets.extract.structs import Structs
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import EXTRA_FIELDS, Table, typed_schema
from analytics_assets.tables.sync import Sync, TooFewRows, TooManyRejected
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.extract.reading import read as read_all
from analytics_assets_tests.extract.reading import reading

REGISTRATIONS, USERS = RESOURCES["registrations"], RESOURCES["users"]
MOMENT = datetime(2022, 6, 8, 14, 59, 4, tzinfo=UTC)


def nested(levels: int) -> str:
    """Stands for lists in lists, which `body` puts there: Python's own JSON cannot write as many."""
    return f"{levels} lists"


def body(table: Table, rows: Sequence[Any]) -> bytes:
    """The answer that has these rows."""
    text = json.dumps({"has_more": False, "data": {table.name: rows}})
    return re.sub(r'"(\d+) lists"', lambda lists: int(lists[1]) * "[" + int(lists[1]) * "]", text).encode()


def both(table: Table, *pages: Sequence[Any], first_page: int = 1) -> Typed:
    """What becomes of the rows of these pages, which is the same in the fast way and value by value."""
    bodies = [body(table, rows) for rows in pages]
    found = typed(Structs(table), table, bodies, first_page)
    assert value_by_value(table, bodies, first_page) == found
    assert found.table.schema == typed_schema(table)
    return found


# Beside this row, every column is read value by value.
ODD = dict.fromkeys((c.name for c in REGISTRATIONS.columns), "\ud800") | {"unlisted": "\ud800"}


def read(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """What becomes of these registrations, the same be their columns read whole or value by value."""
    batch, rejected, _ = both(REGISTRATIONS, rows)
    assert not rejected
    assert both(REGISTRATIONS, rows, [ODD]).table == batch
    return list(batch.to_pylist())


def column(name: str, *values: Any) -> list[Any]:
    """What becomes of `values` in one column."""
    return [row[name] for row in read(*({"id": number, name: value} for number, value in enumerate(values)))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1654700344000, MOMENT),
        (1654700344000.0, MOMENT),
        ("1654700344000", MOMENT),
        (1654700344, MOMENT),
        (1488144236206.5808, datetime(2017, 2, 26, 21, 23, 56, 206581, UTC)),
        ("2022-06-08 14:59:04 UTC", MOMENT),
        ("2022-06-08T14:59:04Z", MOMENT),
        ("2022-06-08T16:59:04+02:00", MOMENT),
        ("2022-06-08T14:59:04", MOMENT),
        ("2022-06-08T14:59:04.123456Z", MOMENT.replace(microsecond=123456)),
        ("2022-06-08T14:59:04.123456789Z", MOMENT.replace(microsecond=123456)),
        ("2022-06-08", datetime(2022, 6, 8, tzinfo=UTC)),
        (" 2022-06-08 ", datetime(2022, 6, 8, tzinfo=UTC)),
        ("1969-12-31T23:59:59Z", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (99_999_999_999, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        (100_000_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (-100_000_000_000, datetime(1966, 10, 31, 14, 13, 20, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_utc(value: Any, expected: datetime | None) -> None:
    """Every format of the API is read the same, alone and among others in its column."""
    assert column("created_at", value) == [expected]
    mixed = ["2022-06-08T14:59:04Z", value, 1654700344000, "2022-06-08 14:59:04 UTC", None]
    assert column("created_at", *mixed) == [MOMENT, expected, MOMENT, MOMENT, None]


def test_a_time_without_a_zone_is_utc_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone of the machine does not matter."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        assert column("created_at", "2022-06-08T14:59:04") == [MOMENT]
    time.tzset()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("user_id", "a", "a"),
        ("user_id", 7, "7"),
        ("score", 87, 87.0),
        ("score", "87.5", 87.5),
        ("score", 2**53 + 1, 2.0**53),
        ("is_completed", True, True),
        ("is_completed", False, False),
        ("is_completed", "TRUE", True),
        ("is_completed", "false", False),
        ("is_completed", 1, True),
        ("is_completed", 0, False),
        ("pass_status", "passed", "passed"),
        ("pass_status", 3, "3"),
        ("pass_status", "nul\0inside", "nul\ufffdinside"),
        ("pass_status", "", ""),
    ],
)
def test_an_odd_value_is_read(name: str, value: Any, expected: Any) -> None:
    """A value of another type that can only mean one thing is read as that."""
    assert column(name, value, None) == [expected, None]


@pytest.mark.parametrize("value", ["2 lists", "300 lists", 2**64, -(10**30), 1e300, {"a": [10**40, "300 lists", None]}])
def test_json_is_kept_as_the_api_spells_it(value: Any) -> None:
    """Integers of any size and values that are nested deeply are no reason to set a row aside."""
    [registration] = read({"id": 1, "content": {"id": 2, "more": value}, "unlisted": value})
    [spelled] = re.findall(rb"\[(.*)\]", body(REGISTRATIONS, [value]).replace(b" ", b""))
    assert registration["content"] == f'{{"id":2,"more":{spelled.decode()}}}'
    assert registration[EXTRA_FIELDS] == f'{{"unlisted":{spelled.decode()}}}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", None),
        ("id", 1.0),
        ("id", True),
        ("id", {"secret": 1}),
        ("score", "secret"),
        ("score", True),
        ("score", float("nan")),
        ("score", {}),
        ("is_completed", "secret"),
        ("is_completed", 2),
        ("created_at", "secret"),
        ("created_at", "22-06-08"),
        ("created_at", "infinity"),
        ("created_at", True),
        ("created_at", 1e300),
        ("created_at", "0001-01-01T00:00:00+02:00"),
        ("created_at", "9999-12-31T23:59:59-01:00"),
        ("created_at", 1654700344123456),
        ("created_at", {}),
        ("pass_status", "secret\ud800"),
        ("score", 10**400),
        ("unlisted", "secret\ud800"),
        ("user", nested(50_000)),
        ("id", nested(50_000)),
    ],
)
def test_an_unreadable_value_sets_its_row_aside(name: str, value: Any) -> None:
    """The row is kept as JSON text, with its page and a reason that names the column and shows no value."""
    rows = [{"id": 1, "user": {"id": 7}}, {"id": 2, "user": {"id": 7}, name: value}, {"id": 3, "score": 1}]
    batch, [rejected], _ = both(REGISTRATIONS, rows[:1], rows[1:], first_page=6)
    assert batch["id"].to_pylist() == ["1", "3"]
    assert batch["user_id"].to_pylist() == ["7", None]
    assert rejected.id == (None if name == "id" else "2")
    assert rejected.page == 7
    assert f"'{'extra_fields' if name == 'unlisted' else name}'" in rejected.reason
    assert "secret" not in rejected.reason
    text = rejected.row.replace(50_000 * "[" + 50_000 * "]", '"50000 lists"')  # which Python's own JSON cannot read
    assert json.loads(text).keys() == rows[1].keys()
    assert value != "50000 lists" or json.loads(text) == rows[1]
    assert rejected.row.isascii()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1, "is_completed": []}, "'is_completed' is no boolean (list); 'score' is no double (str)"),
        ({"id": 1.5}, "'id' is no text (float); 'score' is no double (str)"),
        ({}, "'score' is no double (str); there is no 'id'"),
    ],
)
def test_all_reasons_are_given(row: dict[str, Any], reason: str) -> None:
    """A row with two unreadable values has both in its reason, and that its id is missing."""
    [rejected] = both(REGISTRATIONS, [{"score": "a", **row}]).rejected
    assert rejected.reason == reason


@pytest.mark.parametrize(("row", "key"), [({"id": 2, "\ud800": "secret"}, "2"), ({"\ud800": "secret"}, None)])
def test_a_field_whose_name_is_no_text_sets_its_row_aside(row: dict[str, Any], key: str | None) -> None:
    """Nothing else of the row is looked at but its id, which tells whether the row still is there."""
    batch, [rejected], extra_fields = both(REGISTRATIONS, [{"id": 1, "score": 3}, {"score": "a", **row}])
    assert batch["id"].to_pylist() == ["1"]
    assert (rejected.id, rejected.reason) == (key, "the name of a field is not text")
    assert json.loads(rejected.row) == {"score": "a", **row}
    assert not extra_fields


def test_an_embedded_object_is_to_blame_for_what_is_in_it() -> None:
    """The id that would be lifted out of it is not."""
    [rejected] = both(REGISTRATIONS, [{"id": 1, "user": float("nan")}]).rejected
    assert "user_id" not in rejected.reason


def test_too_many_unreadable_rows_are_refused(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten may be set aside in any case, more only up to the share; the verdict comes with the last page."""
    monkeypatch.setattr("analytics_assets.extract.reading.BATCH_ROWS", 1)
    good, bad = [{"id": n} for n in range(989)], [{"id": -n, "created_at": "?"} for n in range(1, 12)]
    for rows, share, refused in (
        (bad[:10], 0.0, False),
        (bad, 0.5, True),
        (good + bad, 0.01, True),
        (good + bad, 0.02, False),
    ):
        serve(api, rows, [])
        with reading(Sync(rejected_share=share)) as begun:
            assert begun.batch()[1]
            if refused:
                why = r"11 of 1?\d+ rows cannot be read: 'created_at' is no timestamp"
                with pytest.raises(TooManyRejected, match=why):
                    begun.batch()
            else:
                assert not begun.batch()[1]


def test_far_fewer_rows_are_refused(api: ContractApi) -> None:
    """A reading with fewer rows than the least that is expected is refused at its end."""
    serve(api, [{"id": 1}, {"id": 2}])
    fewer = pytest.raises(TooFewRows, match="returned 2 rows; at least 3 were expected")
    with reading(Sync(least_rows=3)) as begun, fewer:
        begun.batch()


@pytest.mark.parametrize(
    "user", [{"id": 7}, {"user": {"id": 7}}, {"id": "7", "email": "e"}, {"user": {"id": "7"}, "role": "r"}, 7]
)
def test_the_learner_is_lifted_out_of_both_nestings(user: Any) -> None:
    """`user_id` is the id of the object, bare or nested, or stands in its place; the object itself stays as JSON."""
    row: dict[str, Any] = {"id": 1, "user": user, "content": {"content": {"id": "c"}}}
    [registration] = read(row)
    assert (registration["user_id"], registration["content_id"]) == ("7", "c")
    assert json.loads(registration["user"]) == user


def test_an_id_that_needs_no_lifting_stays() -> None:
    """A registration that names its learner itself is believed, whatever the embedded object says."""
    assert [row["user_id"] for row in read({"id": 1, "user_id": 8, "user": {"id": 7}}, {"id": 2, "user_id": "8"})] == [
        "8",
        "8",
    ]


@pytest.mark.parametrize("user", [None, {}, {"user": None}, {"user": {}}, {"email": "e"}])
def test_a_registration_without_a_learner_is_read(user: Any) -> None:
    """An embedded object without an id is no error."""
    assert column("user", user)[0] == (None if user is None else json.dumps(user, separators=(",", ":")))


def test_a_nul_goes_nowhere() -> None:
    """NUL, which Postgres refuses, becomes the replacement character in text, ids and JSON."""
    row = {"id": "1\0", "pass_status": "\0", "user": {"id": "7\0", "name": "\0"}, "unlisted": "\0"}
    [clean] = read(row)
    assert (clean["id"], clean["pass_status"], clean["user_id"]) == ("1\ufffd", "\ufffd", "7\ufffd")
    assert json.loads(clean["user"]) == {"id": "7\ufffd", "name": "\ufffd"}
    assert json.loads(clean[EXTRA_FIELDS]) == {"unlisted": "\ufffd"}


def test_what_only_looks_like_a_nul_stays() -> None:
    """A backslash in front of `u0000` is text."""
    texts = ["\\u0000", "\\\\u0000", "\0\\u0000\\\0"]
    [user] = column("user", {"texts": texts})
    assert json.loads(user) == {"texts": [text.replace("\0", "\ufffd") for text in texts]}


def test_fields_without_a_column_are_kept() -> None:
    """What the API adds without notice stays, as JSON."""
    row: dict[str, Any] = {"id": 1, "email": "e", "card_banner": {"url": "u"}, "grade": None}
    batch, _, names = both(USERS, [row, {"id": 2}])
    [extra, none] = batch[EXTRA_FIELDS].to_pylist()
    assert names == {"card_banner", "grade"}
    assert json.loads(extra) == {"card_banner": {"url": "u"}, "grade": None}
    assert none is None


def test_the_last_of_equal_ids_stays() -> None:
    """Within a batch the later row replaces the earlier one, whatever the type of its id."""
    rows: list[dict[str, Any]] = [{"id": 1, "email": "early"}, {"id": 2}, {"id": "1", "email": "late"}]
    batch = both(USERS, rows[:2], rows[2:]).table
    assert batch["id"].to_pylist() == ["2", "1"]
    assert batch["email"].to_pylist() == [None, "late"]


def serve(api: ContractApi, *pages: Sequence[Any]) -> None:
    """Have the API give these pages of each resource."""
    api.page = lambda resource, page, size: {
        "has_more": page < len(pages),
        "data": {resource: pages[page - 1] if page <= len(pages) else []},
    }


def test_a_name_that_no_struct_takes_costs_its_own_batch_only() -> None:
    """Fields that come behind one whose name has a quote are learned, and read in the fast way."""
    structs = Structs(USERS)
    odd, plain = ([{"id": 1, name: "x"}] for name in ('a"b', "grade"))
    for rows in (odd, plain):
        body = json.dumps({"data": {"users": rows}}).encode()
        assert typed(structs, USERS, [body], 1).table == value_by_value(USERS, [body], 1).table
    assert structs.learned == ["grade"]


def batches_of(api: ContractApi, *pages: int) -> list[int]:
    """The sizes of the batches that pages of these sizes make."""
    serve(api, *([{"id": f"{number}-{row}"} for row in range(size)] for number, size in enumerate(pages, 1)))
    sizes, more = [], True
    with reading() as begun:
        while more:
            batch, more = begun.batch()
            assert batch is None or batch.schema == typed_schema(USERS)
            sizes += [] if batch is None else [batch.num_rows]
    return sizes


def test_pages_come_together_to_batches(api: ContractApi) -> None:
    """About 10,000 rows make a batch, the rest another, and nothing an empty one, with which the verdict comes."""
    assert batches_of(api, *[100] * 250) == [10_000, 10_000, 5_000]
    assert batches_of(api, 0) == [0]
    assert batches_of(api, *[100] * 100, 0) == [10_000]


@pytest.mark.parametrize(("seconds", "said"), [(-1.0, [1, 2, 3]), (3600.0, [3])])
def test_how_far_a_reading_is(
    api: ContractApi,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    said: list[int],
) -> None:
    """Rows and pages are said every now and then, and at the end."""
    monkeypatch.setattr("analytics_assets.extract.reading.REPORT_SECONDS", seconds)
    serve(api, *([{"id": 1000 * page + row} for row in range(1000)] for page in range(3)))
    with caplog.at_level("INFO"):
        assert len(read_all()) == 3000
    assert caplog.messages == [f"users: {page},000 rows read, {page} page{'s' * (page > 1)}" for page in said]
