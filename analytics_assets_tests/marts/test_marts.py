"""The join, as an analyst reads it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import history
from analytics_assets.load import statements
from analytics_assets.marts import lineage
from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import ContractApi, status

ENRICHED = MARTS["registrations_enriched"]
JOIN = ("users", "trainings", "registrations", "registrations_enriched")
NOW = datetime.now(UTC)


def days(number: float) -> str:
    """A time that many days from now, as the API writes it."""
    return (NOW + timedelta(days=number)).isoformat()


@pytest.fixture
def people(api: ContractApi, each_warehouse: str) -> ContractApi:
    """An API with a learner and a training."""
    api.rows["users"] = [{"id": 1, "email": "Ann@Example.org", "display_name": "Ann", "segments": ["a", "b"]}]
    api.rows["trainings"] = [{"id": "t", "name": "Safety", "type": "course"}]
    return api


def enriched(query: Query, *columns: str) -> list[tuple[Any, ...]]:
    return query(f"SELECT {', '.join(columns)} FROM registrations_enriched ORDER BY registration_id")


def test_no_registration_is_left_out(people: ContractApi, materialize: Materialize, query: Query) -> None:
    """One row per registration, be its learner and its training known or not, in either nesting and id type."""
    people.rows["registrations"] = [
        {"id": "a", "user": {"user": {"id": "1"}}, "content": {"id": "t"}},
        {"id": "b", "user": {"id": 1}, "content": {"content": {"id": "a path"}}},
        {"id": "c", "user": {"id": "gone"}, "content": {"id": "t"}},
        {"id": "d", "user": None},
    ]
    assert materialize(*JOIN).success
    assert enriched(query, "registration_id", "user_display_name", "training_name", "has_user", "has_training") == [
        ("a", "Ann", "Safety", True, True),
        ("b", "Ann", None, True, False),
        ("c", None, "Safety", False, True),
        ("d", None, None, False, False),
    ]
    row = enriched(query, "user_id", "user_email", "email_domain", "user_segments", "training_id", "training_type")[0]
    assert row == ("1", "Ann@Example.org", "example.org", '["a","b"]', "t", "course")


STATUS: list[tuple[dict[str, Any], tuple[str, int | None, int | None]]] = [
    ({}, ("not_started", None, None)),
    ({"completion_percentage": 0}, ("not_started", None, None)),
    ({"completion_percentage": 40}, ("in_progress", None, None)),
    ({"due_at": days(1)}, ("not_started", None, None)),
    ({"due_at": days(-3), "completion_percentage": 40}, ("overdue", None, 3)),
    ({"due_date": days(-3)}, ("overdue", None, 3)),
    ({"due_at": days(1), "due_date": days(-3)}, ("not_started", None, None)),
    ({"is_completed": True}, ("completed", None, None)),
    ({"is_completed": True, "due_at": days(-3)}, ("completed", None, None)),
    ({"completed_at": days(-1), "created_at": days(-11), "due_at": days(-3)}, ("completed", 10, None)),
    ({"is_completed": False, "completion_percentage": 100}, ("in_progress", None, None)),
]


def test_status_and_days(people: ContractApi, materialize: Materialize, query: Query) -> None:
    """Completed goes before overdue, overdue before progress; days are counted by UTC date."""
    people.rows["registrations"] = [{"id": f"{n:02}", **fields} for n, (fields, _) in enumerate(STATUS)]
    materialize(*JOIN)
    midnights = (datetime.now(UTC).date() - NOW.date()).days  # that have passed since the due times were made
    found = enriched(query, "status", "days_to_complete", f"days_overdue - {midnights}")
    assert found == [expected for _, expected in STATUS]


def test_the_sql_runs_as_it_stands(api: ContractApi, materialize: Materialize, warehouse_file: Any) -> None:
    """A person can run the file with DuckDB alone."""
    api.rows["registrations"] = [{"id": 1}]
    materialize(*JOIN)
    with duckdb.connect(str(warehouse_file), read_only=True) as connection:
        assert len(connection.execute(lineage.query(ENRICHED.name)).fetchall()) == 1


def test_meaning_is_in_the_warehouse(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Every table and column carries its description as a comment."""
    materialize()
    materialize("users", "registrations_enriched")
    comments = (
        "SELECT comment FROM duckdb_{}s() WHERE schema_name = 'analytics' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\'"
    )
    on_tables, on_columns = query(comments.format("table")), query(comments.format("column"))
    histories = {history.name: history for history in HISTORIES.values()}
    everything = {**RESOURCES, **histories, **MARTS, **LEDGER}
    assert len(on_tables) == len(everything)
    assert len(on_columns) == sum(len(table.columns) for table in {**everything, **VIEWS}.values())
    assert all(comment for (comment,) in on_tables + on_columns)


def test_the_join_depends_on_exactly_its_three_parents() -> None:
    """The dependencies are those of the SQL."""
    parents = defs.resolve_asset_graph().get(dg.AssetKey(ENRICHED.name)).parent_keys
    assert {key.to_user_string() for key in parents} == {"registrations", "users", "trainings"}


def test_a_refill_keeps_what_others_have_made(people: ContractApi, materialize: Materialize, query: Query) -> None:
    """A view of somebody else on the mart still works after the mart has been made again."""
    people.rows["registrations"] = [{"id": 1}]
    materialize(*JOIN)
    with warehouse().connection() as client:
        client.execute_sql("CREATE VIEW mine AS SELECT registration_id FROM analytics.registrations_enriched")
    people.rows["registrations"] += [{"id": 2}]
    materialize(*JOIN)
    assert query("SELECT count(*) FROM mine") == [(2,)]


def test_a_mart_whose_columns_have_changed_is_made_anew(
    people: ContractApi, materialize: Materialize, query: Query
) -> None:
    """A mart of an older version does not stand in the way of a newer one."""
    materialize("users", "trainings", "registrations")
    with warehouse().connection() as client:
        client.execute_sql("CREATE TABLE registrations_enriched AS SELECT 1 AS registration_id")
    assert materialize("registrations_enriched").success
    names = "SELECT column_name FROM information_schema.columns WHERE table_name = 'registrations_enriched'"
    assert len(query(names)) == len(ENRICHED.columns)


def test_a_failing_refill_leaves_the_old_rows(people: ContractApi, materialize: Materialize, query: Query) -> None:
    """A query that fails half way leaves the mart as it was, in one transaction."""
    people.rows["registrations"] = [{"id": 1}]
    materialize(*JOIN)
    broken = lineage.query(ENRICHED.name).replace("users.display_name", "cast('broken' AS bigint)")
    with warehouse().connection() as client, pytest.raises(Exception, match="broken"):
        statements.refill(client, ENRICHED, broken)
    assert enriched(query, "registration_id") == [("1",)]


def test_a_parent_that_was_never_loaded_is_named(people: ContractApi, materialize: Materialize) -> None:
    """Without one of its tables the join says which to materialize first."""
    materialize("users", "trainings")
    result = materialize("registrations_enriched")
    [failure] = [history.failure_text(event) for event in result.all_events if event.is_step_failure]
    assert (
        failure
        == "registrations_enriched needs registrations, which no run has loaded yet; materialize registrations first"
    )


def test_a_parent_that_is_behind_is_named(
    people: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, query: Query
) -> None:
    """After a failed sync of one parent the join is made from what is there, and says which parent is how old."""
    people.rows["registrations"] = [{"id": 1, "user": {"id": 1}}]
    materialize(*JOIN)
    assert history.behind(instance, lineage.sources(ENRICHED.name)) == {}
    people.always["users"] = status(404)
    people.rows["registrations"] += [{"id": 2, "user": {"id": 1}}]
    materialize("users")
    materialize("registrations")
    result = materialize("registrations_enriched")
    assert enriched(query, "user_display_name") == [("Ann",), ("Ann",)]
    [event] = result.get_asset_materialization_events()
    loaded, run = history.last_materialization(instance, "users"), history.last_run(instance, "users")
    assert loaded
    assert run
    tried = instance.get_run_records(dg.RunsFilter([run.run_id]))[0].create_timestamp
    note = f"was not updated on {tried:%Y-%m-%d %H:%M} UTC; its rows are from {loaded.time:%Y-%m-%d %H:%M} UTC"
    assert event.materialization.metadata["users_behind"].value == note
    [check] = [c for c in result.get_asset_check_evaluations() if c.check_name == "parents_are_up_to_date"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.description == f"users {note}."
