"""JSON values to typed columns."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from analytics_assets.batches import Batches, Sync, UnreadableValue, typed
from analytics_assets.schema import EXTRA_FIELDS, RESOURCES, arrow_schema

REGISTRATIONS, USERS = RESOURCES["registrations"], RESOURCES["users"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = datetime(2022, 6, 8, 14, 59, 4, tzinfo=UTC)


def column(name: str, *values: Any) -> list[Any]:
    """What becomes of `values` in one column of registrations."""
    rows = [{"id": number, name: value} for number, value in enumerate(values)]
    batch = typed(REGISTRATIONS, rows, [1] * len(rows), NOW)
    assert batch.schema == arrow_schema(REGISTRATIONS)
    return list(batch[name].to_pylist())


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
        ("1969-12-31T23:59:59Z", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_utc(value: Any, expected: datetime | None) -> None:
    """Every format of the API is read the same, alone and among others in its column."""
    assert column("created_at", value) == [expected]
    mixed = ["2022-06-08T14:59:04Z", value, 1654700344000, "2022-06-08 14:59:04 UTC", None]
    assert column("created_at", *mixed) == [MOMENT, expected, MOMENT, MOMENT, None]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("score", 87, 87.0),
        ("score", "87.5", 87.5),
        ("is_completed", True, True),
        ("is_completed", "false", False),
        ("is_completed", 1, True),
        ("pass_status", "passed", "passed"),
        ("pass_status", 3, "3"),
        ("pass_status", "nul\0inside", "nul\ufffdinside"),
        ("pass_status", "", ""),
    ],
)
def test_an_odd_value_is_read(name: str, value: Any, expected: Any) -> None:
    """A value of another type that can only mean one thing is read as that."""
    assert column(name, value, None) == [expected, None]


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
        ("created_at", 1e300),
        ("created_at", {}),
        ("pass_status", "secret\ud800"),
    ],
)
def test_an_unreadable_value_is_named_but_not_shown(name: str, value: Any) -> None:
    """The error names resource, column and page; the value, which may be a learner's, is nowhere in it."""
    rows = [{"id": 1}, {"id": 2, name: value}]
    with pytest.raises(UnreadableValue, match=r"^registrations: .* page 7\b") as raised:
        typed(REGISTRATIONS, rows, [6, 7], NOW)
    assert f"'{name}'" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "user", [{"id": 7}, {"user": {"id": 7}}, {"id": "7", "email": "e"}, {"user": {"id": "7"}, "role": "r"}]
)
def test_the_learner_is_lifted_out_of_both_nestings(user: Any) -> None:
    """`user_id` is the id of the object, bare or nested; the object itself stays as JSON."""
    row: dict[str, Any] = {"id": 1, "user": user, "content": {"content": {"id": "c"}}}
    [read] = typed(REGISTRATIONS, [row], [1], NOW).to_pylist()
    assert (read["user_id"], read["content_id"]) == ("7", "c")
    assert json.loads(read["user"]) == user


@pytest.mark.parametrize("user", [None, {}, {"user": None}, {"user": {}}, {"email": "e"}])
def test_a_registration_without_a_learner_is_read(user: Any) -> None:
    """An embedded object without an id is no error."""
    assert column("user", user)[0] == (None if user is None else json.dumps(user, separators=(",", ":")))


def test_fields_without_a_column_are_kept() -> None:
    """What the API adds without notice stays, as JSON."""
    row: dict[str, Any] = {"id": 1, "email": "e", "card_banner": {"url": "u"}, "grade": None}
    [extra, none] = typed(USERS, [row, {"id": 2}], [1, 1], NOW)[EXTRA_FIELDS].to_pylist()
    assert json.loads(extra) == {"card_banner": {"url": "u"}, "grade": None}
    assert none is None


def test_the_last_of_equal_ids_stays() -> None:
    """Within a batch the later row replaces the earlier one, whatever the type of its id."""
    rows: list[dict[str, Any]] = [{"id": 1, "email": "early"}, {"id": 2}, {"id": "1", "email": "late"}]
    batch = typed(USERS, rows, [1, 1, 2], NOW)
    assert batch["id"].to_pylist() == ["2", "1"]
    assert batch["email"].to_pylist() == [None, "late"]


def batches_of(*pages: int) -> list[int]:
    """The sizes of the batches that pages of these sizes make."""
    batches, sizes = Batches(USERS, Sync()), []
    for number, size in enumerate(pages, 1):
        rows = [{"id": f"{number}-{row}"} for row in range(size)]
        batch: pa.Table | None = batches.add(rows, number, last=number == len(pages))
        sizes += [] if batch is None else [batch.num_rows]
    return sizes


def test_pages_come_together_to_batches() -> None:
    """About 10,000 rows make a batch, the rest another, nothing an empty one, and nothing after something none."""
    assert batches_of(*[100] * 250) == [10_000, 10_000, 5_000]
    assert batches_of(0) == [0]
    assert batches_of(*[100] * 100, 0) == [10_000]
