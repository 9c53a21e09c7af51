"""What the rows of the sample API tell fits together, and every oddity of the real API occurs in them."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from analytics_assets.sample_api.academy import SIZES, Academy
from analytics_assets.sample_api.data import rows
from analytics_assets_tests.sample_api.conftest import ACADEMY, NOW, instant

TIMES = {
    "integer milliseconds": r"\d{13}",
    "fractional milliseconds": r"\d{13}\.\d+",
    "space and UTC": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
    "ISO 8601 with Z": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "ISO 8601 with an offset": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
}


def test_seed_and_moment_decide_the_rows() -> None:
    """Another seed, or another moment at which histories end, gives other rows."""
    assert rows(Academy(8, NOW), "users") != rows(ACADEMY, "users")
    assert rows(Academy(7, NOW.replace(year=2023)), "users") != rows(ACADEMY, "users")


@pytest.mark.parametrize("form", TIMES)
@pytest.mark.parametrize(
    ("resource", "column"),
    [
        *(("users", "created_at"), ("trainings", "created_at"), ("registrations", "completed_at")),
        *(("registrations", "due_at"), ("awarded_certifications", "awarded_at"), ("paths_users", "completed_at")),
    ],
)
def test_times_are_mixed_within_a_column(resource: str, column: str, form: str) -> None:
    """Every spelling of a time stands in every column of times."""
    assert any(re.fullmatch(TIMES[form], str(row.get(column))) for row in rows(ACADEMY, resource))


def test_ids_are_mixed() -> None:
    """Ids and references to them are integers on some rows and texts on others, the same one both ways."""
    for resource in SIZES:
        assert {type(row["id"]) for row in rows(ACADEMY, resource)} == {int, str}
    for column in ("user_id", "path_id"):
        found = {row[column] for row in rows(ACADEMY, "paths_users") if column in row}
        assert {str(value) for value in found if isinstance(value, int)} & found


@pytest.mark.parametrize("column", ["user", "content"])
def test_both_nestings_occur(column: str) -> None:
    """A registration's user and content stand directly in it or one level deeper, with ids of both types, or not."""
    shapes: Counter[tuple[bool, type]] = Counter()
    for row in rows(ACADEMY, "registrations"):
        outer: dict[str, Any] = row.get(column) or {}
        inner = outer.get(column) or outer
        shapes[column in outer, type(inner.get("id"))] += 1
    assert {(nested, kind) for nested in (True, False) for kind in (int, str)} <= shapes.keys()
    assert shapes[False, type(None)] > 0


def test_other_oddities_occur() -> None:
    """Unlisted fields, null and absent fields, empty lists, rows of an id alone, names beyond ASCII are all there."""
    users, paths = rows(ACADEMY, "users"), rows(ACADEMY, "paths_users")
    assert {"time_zone", "card_banner", "time_estimate_seconds", "grading_status", "enrollment_method"} <= {
        name for resource in SIZES for row in rows(ACADEMY, resource) for name in row
    }
    assert any("created_at" not in row for row in users)
    assert any(row.get("email", "") is None for row in users)
    assert any(row.get("segments") == [] for row in users)
    assert any(row.get("custom_registration_field_values") == [] for row in users)
    assert any(list(row) == ["id"] for row in paths)
    assert any(not row["first_name"].isascii() for row in users)


def joined() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Registrations with the ids of their user and content as text."""
    for row in rows(ACADEMY, "registrations"):
        if row.get("user") and row.get("content"):
            user, content = (row[name].get(name, row[name]) for name in ("user", "content"))
            yield row, str(user["id"]), str(content["id"])


def test_references() -> None:
    """Most registrations have a listed user and training, some a removed user, some a content that is no training."""
    users = {str(row["id"]) for row in rows(ACADEMY, "users")}
    trainings = {str(row["id"]) for row in rows(ACADEMY, "trainings")}
    found = Counter((user in users, content in trainings) for _, user, content in joined())
    assert found[True, True] > 3000
    assert found[False, True] > 50
    assert found[True, False] > 100


def test_sizes_are_skewed() -> None:
    """Some trainings are much bigger than others."""
    registered = Counter(content for _, _, content in joined()).most_common()
    assert registered[0][1] > 10 * registered[len(registered) // 2][1]


def test_histories_add_up() -> None:
    """Whatever a registration tells fits together, and nothing happens before its beginning or after now."""
    outcomes: Counter[tuple[str | None, bool, bool]] = Counter()
    for row in rows(ACADEMY, "registrations"):
        created = instant(row["created_at"])
        assert row.get("due_at") is None or instant(row["due_at"]) > created
        assert row["is_completed"] == (row["completed_at"] is not None) == (row["completion_percentage"] == 100)
        if row["is_completed"]:
            assert created < instant(row["completed_at"]) <= NOW
        else:
            assert row.get("score") is None
            assert row.get("pass_status") in (None, "pending")
        if row.get("score") is not None and row.get("pass_status"):
            assert row["pass_status"] == ("passed" if row["score"] >= 70 else "failed")
        late = row.get("due_at") is not None and not row["is_completed"] and instant(row["due_at"]) < NOW
        outcomes[row.get("pass_status"), late, row["completion_percentage"] == 0] += 1
    assert {"passed", "failed", "pending"} <= {status for status, _, _ in outcomes}
    assert {(True, True), (True, False)} <= {(late, untouched) for _, late, untouched in outcomes}


def test_certificates_follow_completions() -> None:
    """Every certificate that was awarded is a listed one, for a training its holder had completed by then."""
    names = {row["name"] for row in rows(ACADEMY, "certifications")}
    titles = {str(row["id"]): row["name"] for row in rows(ACADEMY, "trainings")}
    completed: dict[tuple[str, str], datetime] = {}
    for row, user, content in joined():
        if row["is_completed"] and content in titles:
            key, when = (user, f"Certificate: {titles[content]}"), instant(row["completed_at"])
            completed[key] = min(when, completed.get(key, when))
    found = 0
    for award in rows(ACADEMY, "awarded_certifications"):
        assert award["name"] in names
        earliest = completed.get((str(award["user_id"]), award["name"]))
        found += earliest is not None and earliest <= instant(award["awarded_at"]) <= NOW
    # A registration that lacks its user or content cannot be found from here.
    assert found > 0.95 * SIZES["awarded_certifications"]
