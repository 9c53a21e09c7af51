"""The six resources, from HTTP to the warehouse, through Dagster."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import history
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, Query
from analytics_assets_tests.contract_api import ContractApi, status


def failure_of(result: dg.ExecuteInProcessResult, step: str = "users") -> str:
    [event] = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    return history.failure_text(event)


@pytest.mark.usefixtures("each_warehouse")
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
def test_every_row_is_loaded(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Every page's rows arrive, once, and a full last page costs no call more."""
    monkeypatch.setenv("READ_AHEAD", "1")
    api.rows["trainings"] = [{"id": number, "name": f"Training {number}"} for number in range(count)]
    assert materialize("trainings").success
    assert query("SELECT count(*), count(DISTINCT id) FROM trainings") == [(count, count)]
    assert api.calls["trainings"] == max(1, -(-count // 100))


@pytest.mark.usefixtures("each_warehouse")
def test_a_resource_without_rows_has_its_table(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Zero rows make an empty table with all its columns, in declared order."""
    assert materialize("registrations").success
    columns = query(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'analytics' "
        "AND table_name = 'registrations' ORDER BY ordinal_position"
    )
    assert [name for (name,) in columns] == [column.name for column in RESOURCES["registrations"].columns]


@pytest.mark.usefixtures("each_warehouse")
def test_a_second_sync_changes_no_count(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A second sync duplicates nothing and writes the row that has changed, and no other; a third writes none."""
    api.rows["users"] = [{"id": number, "email": f"{number}@example.org"} for number in range(250)]
    materialize("users")
    [(first,)] = query("SELECT DISTINCT _changed_at FROM users")
    api.rows["users"][7]["email"] = "new@example.org"
    materialize("users")
    materialize("users")
    assert query("SELECT count(*) FROM users") == [(250,)]
    assert query(
        "SELECT id, email, _changed_in FROM users WHERE _changed_at > (SELECT min(_changed_at) FROM users)"
    ) == [("7", "new@example.org", 2)]
    assert query("SELECT DISTINCT _changed_at FROM users WHERE id <> '7'") == [(first,)]
    counts = "SELECT number, row_count, added, changed, deleted FROM syncs ORDER BY number"
    assert query(counts) == [(1, 250, 250, 0, 0), (2, 250, 0, 1, 0), (3, 250, 0, 0, 0)]


@pytest.mark.usefixtures("each_warehouse")
def test_an_id_on_two_pages_is_one_row(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Of a row that moved between pages the later page's values stay, and the sync after it works."""
    api.rows["users"] = [{"id": number, "email": "early"} for number in range(100)]
    api.rows["users"] += [{"id": 99, "email": "late"}, {"id": "98", "email": "late"}]
    for _ in range(2):
        assert materialize("users").success
        assert query("SELECT count(*) FROM users") == [(100,)]
        assert query("SELECT id FROM users WHERE email = 'late' ORDER BY id") == [("98",), ("99",)]


@pytest.mark.usefixtures("each_warehouse")
def test_an_id_in_two_batches_is_one_row(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later page wins also where the two pages come in different batches."""
    monkeypatch.setattr("analytics_assets.extract.reading.BATCH_ROWS", 100)
    api.rows["users"] = [{"id": number, "email": "early"} for number in range(300)]
    api.rows["users"] += [{"id": 5, "email": "late"}]
    result = materialize("users")
    assert query("SELECT email, _page FROM users WHERE id = '5'") == [("late", 4)]
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows_in_sync"].value == 300


@pytest.mark.usefixtures("each_warehouse")
def test_a_materialization_carries_its_figures(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in this sync and in the table, pages, calls, seconds, the load id and the table's name stand beside it."""
    monkeypatch.setenv("READ_AHEAD", "1")
    api.rows["users"] = [{"id": number} for number in range(150)]
    materialize("users")
    del api.rows["users"][120:]
    api.rows["users"] = [*api.rows["users"][1:], {"id": 0, "first_name": "Ann"}]
    api.answers["users"].append(status(503))
    [event] = materialize("users").get_asset_materialization_events()
    metadata: dict[str, Any] = {label: entry.value for label, entry in event.materialization.metadata.items()}
    assert metadata.pop("preview")
    assert metadata.pop("profile")
    assert metadata.pop("seconds") > 0
    assert float(metadata.pop("load_id")) > 0
    assert 12_900 < metadata.pop("calls_left") < 13_000
    assert metadata == {
        "dagster/row_count": 150,
        "rows_in_sync": 120,
        "rows_read": 120,
        "added_rows": 0,
        "changed_rows": 1,
        "rejected_rows": 0,
        "deleted_rows": 0,
        "extra_fields": [],
        "empty_columns": [name for name in RESOURCES["users"].fields[1:] if name != "first_name"],
        "pages": 2,
        "resumed_pages": 0,
        "calls": 3,
        "dagster/table_name": "analytics.users",
        "api": api.url,
    }


@pytest.mark.usefixtures("each_warehouse")
def test_one_broken_resource_leaves_the_others_alone(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A broken endpoint fails its asset, by name, with what it still holds and what to do; the other five succeed."""
    api.rows["users"] = [{"id": 1}]
    materialize()
    api.always["users"] = status(500)
    result = materialize()
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    assert made == {*RESOURCES, "progress_by_day", "data_dictionary"} - {"users"}, "all that is not made from it"
    cause = failure_of(result)
    assert cause.startswith(
        f"users was not loaded: HTTP 500 from {api.url}/v1/users?per_page=100&page=1. The table still holds 1 rows of "
    )
    assert cause.endswith(" UTC. Materialize it again later.")
    assert query("SELECT count(*) FROM users") == [(1,)]


def test_what_outlasts_the_retries_of_a_page_is_retried_as_a_resource(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """A transient failure asks Dagster for a retry of that resource alone."""
    api.rows["users"] = [{"id": 1}]
    api.answers["users"].extend([status(503)] * 7)
    result = materialize("users", "trainings")
    assert result.success
    assert [event.step_key for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"] == ["users"]
    assert api.calls["users"] == 8
    assert api.calls["trainings"] == 1


def test_a_wrong_token_fails_at_once(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong token is one call, and its error says what to check but not what the token was."""
    monkeypatch.setenv("API_KEY", "wrong-token")
    message = failure_of(materialize("users"))
    assert "HTTP 401" in message
    assert "check API_KEY" in message
    assert "wrong-token" not in message
    assert api.calls["users"] == 1


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_missing_key_is_named(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Without a key nothing is requested, and the error names what to set and where."""
    monkeypatch.delenv("API_KEY") if key is None else monkeypatch.setenv("API_KEY", key)
    assert "API_KEY is not set; put it in .env (see .env.example)" in failure_of(materialize("users"))
    assert not api.calls


def test_a_subset_is_just_that(api: ContractApi, materialize: Materialize) -> None:
    """Two of the six cost two calls."""
    result = materialize("users", "trainings")
    assert result.success
    assert api.calls == {"users": 1, "trainings": 1}


@pytest.mark.usefixtures("each_warehouse")
def test_times_are_utc_to_the_microsecond(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Every format of the API is the same instant in the warehouse, also mixed in one column."""
    formats = [
        1654700344123.457,
        "2022-06-08T14:59:04.123457Z",
        "2022-06-08T16:59:04.123457+02:00",
        "2022-06-08 14:59:04.123457 UTC",
    ]
    api.rows["users"] = [{"id": number, "created_at": value} for number, value in enumerate(formats)]
    materialize("users")
    expected = datetime(2022, 6, 8, 14, 59, 4, 123457, UTC)
    times = query("SELECT created_at AT TIME ZONE 'UTC' FROM users ORDER BY id")
    assert [time.replace(tzinfo=UTC) for (time,) in times] == [expected] * 4


@pytest.mark.usefixtures("each_warehouse")
def test_no_copy_of_the_rows_stays_behind(
    api: ContractApi, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """Neither the staging dataset nor the pipelines folder keeps rows after a sync."""
    api.rows["users"] = [{"id": 1, "email": "someone@example.org"}]
    materialize("users")
    materialize("users")
    assert query("SELECT count(*) FROM analytics_staging.users") == [(0,)]
    assert not [file for file in (tmp_path / "dlt").rglob("*") if file.is_file() and b"someone@" in file.read_bytes()]


def test_definitions_show_the_columns_before_any_run() -> None:
    """Each asset has a description, an owner, kinds, a group and described columns at definition time."""
    graph = defs.resolve_asset_graph()
    for name, table in RESOURCES.items():
        node = graph.get(dg.AssetKey(name))
        assert node.description == table.description
        assert node.group_name == "analytics_api"
        assert node.owners
        assert node.kinds == {"dlt", "duckdb"}
        assert not node.parent_keys
        schema = node.metadata["dagster/column_schema"]
        assert [(c.name, c.description) for c in schema.columns] == [(c.name, c.description) for c in table.columns]
