"""Each check: what it passes, what it finds, and its evidence."""

import dagster as dg
import pytest

from analytics_assets.defs.checks import CLAIMS, _claims_of
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import ID, TIME, Column, Table
from analytics_assets_tests.conftest import Materialize, warehouse
from analytics_assets_tests.contract_api import ContractApi


@pytest.fixture
def loaded(api: ContractApi, each_warehouse: str, materialize: Materialize) -> ContractApi:
    """A warehouse with five registrations of one learner for one training."""
    api.rows["users"] = [{"id": 1}]
    api.rows["trainings"] = [{"id": 1}]
    api.rows["registrations"] = [{"id": n, "user": {"id": 1}, "content": {"id": 1}} for n in range(1, 6)]
    assert all(
        check.passed
        for check in materialize(
            "users", "trainings", "registrations", "registrations_enriched"
        ).get_asset_check_evaluations()
    )
    return api


def failed(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks of a run that found something, by name."""
    return {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}


def check_only(instance: dg.DagsterInstance, name: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Runs the checks of one table without making it."""
    from analytics_assets.definitions import defs

    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(name))
    job = dg.define_asset_job("only_checks", selection).resolve(asset_graph=defs.resolve_asset_graph())
    return failed(job.execute_in_process(instance=instance))


@pytest.mark.parametrize(
    ("damage", "table", "check", "severity", "count", "examples"),
    [
        ("INSERT INTO users SELECT * FROM users", "users", "id_is_a_key", "ERROR", 1, "1"),
        (
            "ALTER TABLE users ALTER COLUMN id DROP NOT NULL; UPDATE users SET id = NULL",
            "users",
            "id_is_a_key",
            "ERROR",
            1,
            "None",
        ),
        (
            "UPDATE trainings SET created_at = '2200-01-01'",
            "trainings",
            "times_are_not_in_the_far_future",
            "WARN",
            1,
            "1",
        ),
        (
            "UPDATE syncs SET clock_ahead = -7200 WHERE resource = 'users'",
            "users",
            "clock_is_right",
            "WARN",
            1,
            "1: 7200 s behind the API",
        ),
        (
            "INSERT INTO syncs (resource, number, started_at, finished_at, row_count, rejected, deleted, pages, calls) "
            "SELECT resource, 0, started_at, started_at + INTERVAL '2' HOUR, 1, 0, 0, 1, 1 FROM syncs",
            "users",
            "clock_is_right",
            "WARN",
            1,
            "1: 7200 s too early",
        ),
        (
            "DELETE FROM registrations WHERE id <> '1'",
            "registrations_enriched",
            "has_every_registration_once",
            "ERROR",
            4,
            "2, 3, 4",
        ),
    ],
)
def test_a_check_finds_the_damage(
    loaded: ContractApi,
    instance: dg.DagsterInstance,
    damage: str,
    table: str,
    check: str,
    severity: str,
    count: int,
    examples: str,
) -> None:
    """A damaged table fails its check, which counts the rows and shows up to three ids."""
    with warehouse().connection() as client:
        client.execute_sql(damage)
    found = check_only(instance, table)
    assert list(found) == [check]
    assert found[check].severity.value == severity
    assert found[check].metadata["offending_rows"].value == count
    assert found[check].metadata["examples"].value == examples


def test_unmatched_learners_and_contents_are_a_warning(loaded: ContractApi, materialize: Materialize) -> None:
    """Registrations of removed users and of contents that are no training warn, and fail nothing."""
    loaded.rows["registrations"] += [{"id": 6, "user": {"id": "gone"}, "content": {"id": "path"}}]
    result = materialize("users", "trainings", "registrations", "registrations_enriched")
    assert result.success
    found = failed(result)
    assert set(found) == {"users_are_matched", "trainings_are_matched"}
    for check in found.values():
        assert check.severity is dg.AssetCheckSeverity.WARN
        assert check.description == "Violated by 1 of 6 rows, such as 6."


def test_a_table_without_times_has_no_check_of_them() -> None:
    """What does not apply to a table is not asked of it."""
    assert [claim.name for claim in _claims_of(Table("t", "", (Column("id", ID, ""),)))] == ["id_is_a_key"]


def test_every_table_has_the_checks_of_its_declaration() -> None:
    """The key of each table is checked, and its times."""
    for table in (*RESOURCES.values(), *MARTS.values()):
        names = [claim.name for claim in CLAIMS if claim.table is table]
        assert f"{'_and_'.join(table.whole_key)}_is_a_key" in names
        assert ("times_are_not_in_the_far_future" in names) == bool(table.names(TIME))
        assert ("rows_are_readable" in names) == (table.name in RESOURCES)
        assert ("clock_is_right" in names) == (table.name in RESOURCES)
