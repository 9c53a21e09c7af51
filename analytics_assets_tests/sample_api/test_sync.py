"""The sample API, misbehaving, against what its rows really are: every value of the way from HTTP to the join."""

from datetime import UTC, datetime
from typing import Any

import pytest

from analytics_assets.sample_api.academy import Academy
from analytics_assets.sample_api.data import rows
from analytics_assets.sample_api.process import running
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, Query

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAULTS = {
    "users": "status:503*3,html@2*1",
    "trainings": "has_more_text",
    "registrations": "cut@2*1,reset@5*1,retry_after:1*1",
    "certifications": "no_has_more",
    "paths_users": "shift:3",
}


def instant(value: Any) -> datetime | None:
    """A time of the API, read by other means than the project's own."""
    if value is None:
        return None
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace(" UTC", "+00:00")).astimezone(UTC)
    return datetime.fromtimestamp(value / 1000, UTC)


def embedded(row: dict[str, Any], name: str) -> str | None:
    """The id of an embedded object in either nesting."""
    value = row.get(name) or {}
    key = value.get(name, value).get("id")
    return None if key is None else str(key)


@pytest.mark.usefixtures("each_warehouse")
def test_a_misbehaving_api_is_read_exactly(
    materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fault in nearly every resource all ids, times and joins are those of the API's rows."""
    faults = [part for resource, fault in FAULTS.items() for part in ("--fault", f"{resource}={fault}")]
    with running("--token", "t", "--now", NOW.isoformat(), *faults) as url:
        monkeypatch.setenv("API_BASE_URL", url)
        monkeypatch.setenv("API_KEY", "t")
        result = materialize()
    assert result.success
    academy = Academy(now=NOW)
    truth = {name: {str(row["id"]): row for row in rows(academy, name)} for name in RESOURCES}
    for name, expected in truth.items():
        assert {key for (key,) in query(f"SELECT id FROM {name}")} == expected.keys(), name
        assert query(f"SELECT count(*) FROM {name}") == [(len(expected),)]
    assert query("SELECT count(*) FROM rejected_rows") == [(0,)]

    found = query("SELECT id, created_at AT TIME ZONE 'UTC', user_id, content_id FROM registrations")
    for key, created, user, content in found:
        row = truth["registrations"][key]
        assert abs((created.replace(tzinfo=UTC) - instant(row["created_at"])).total_seconds()) < 0.000_002
        assert (user, content) == (embedded(row, "user"), embedded(row, "content"))

    joined = query(
        "SELECT registration_id, user_display_name, has_user, training_name, has_training FROM registrations_enriched"
    )
    assert len(joined) == len(truth["registrations"])
    for key, user_name, has_user, training_name, has_training in joined:
        row = truth["registrations"][key]
        user = truth["users"].get(embedded(row, "user") or "")
        training = truth["trainings"].get(embedded(row, "content") or "")
        assert (user_name, has_user) == (user.get("display_name") if user else None, user is not None)
        assert (training_name, has_training) == (training.get("name") if training else None, training is not None)

    # A page loads the last hundred materializations with all that each says: what does not change is said once.
    for event in result.get_asset_materialization_events():
        [name] = event.asset_key.path if event.asset_key else [""]
        size = sum(len(label) + len(str(entry.value)) for label, entry in event.materialization.metadata.items())
        assert size < (
            13_000 if name in ("registrations_enriched", "learner_progress", "progress_by_day") else 2_500
        ), name
