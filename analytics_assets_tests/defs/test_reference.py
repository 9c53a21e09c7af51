"""What can be looked up: any column by its name, and every sync; in the UI, in the warehouse, in the published copy."""

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from analytics_assets.definitions import defs
from analytics_assets.tables.bookkeeping import LEDGER, SYNC_LOG, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Materialize, Query
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.defs.test_column_profile import lines, shown
from analytics_assets_tests.load.test_published import KEY

EVERYTHING = {**RESOURCES, **{history.name: history for history in HISTORIES.values()}, **MARTS, **LEDGER, **VIEWS}
DESCRIBED = "SELECT table_name, column_name, meaning FROM analytics.data_dictionary ORDER BY ALL"
COMMENTED = (
    "SELECT table_name, column_name, comment FROM duckdb_columns() "
    "WHERE schema_name = 'analytics' AND NOT starts_with(table_name, '_dlt') AND NOT starts_with(column_name, '_dlt') "
    "ORDER BY ALL"
)


def metadata(name: str) -> dict[str, object]:
    """What is known of the asset before any run."""
    return dict(defs.resolve_asset_graph().get(dg.AssetKey(name)).metadata)


def test_every_column_is_found_by_its_name() -> None:
    """The asset `data_dictionary` lists each `table.column` with meaning, source, mark of personal data and link."""
    schema = metadata("data_dictionary")["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    found = {column.name: column for column in schema.columns}
    assert set(found) == {f"{table.name}.{column.name}" for table in EVERYTHING.values() for column in table.columns}
    assert found["users.email"].description == (
        "Address the learner signs in with. From the API's field `email`. See [users](/assets/users)."
    )
    assert found["users.email"].tags == {"personal_data": ""}
    assert "else the id in `user`" in (found["registrations.user_id"].description or "")
    assert (found["registration_history.score"].description or "").endswith(
        "From `registrations.score`. See [registrations](/assets/registrations)."
    )
    for name in (*RESOURCES, *MARTS, *VIEWS):
        assert defs.resolve_asset_graph().has(dg.AssetKey(name)), "a link leads to a page"


def test_personal_data_is_listed_by_table() -> None:
    """In which tables there is an address, the page of `data_dictionary` says in one place."""
    text = metadata("data_dictionary")["personal_data"]
    assert isinstance(text, dg.MarkdownMetadataValue)
    found = (line.removeprefix("- ").split(": ") for line in str(text.value).splitlines())
    tables = {name for name, columns in found if "email" in columns}
    assert tables == {"users", "awarded_certifications", "paths_users", "registrations_enriched", "learner_progress"}
    assert len(str(text.value)) < 1000


def test_the_warehouse_describes_itself(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """The view lists exactly the columns that are there, with their comments, its own among them."""
    assert materialize().success
    assert query(DESCRIBED) == query(COMMENTED)
    assert query("SELECT source, personal_data FROM data_dictionary WHERE column_name = 'email'") == [
        ("the API's field `email`", True)
    ]


@pytest.mark.parametrize("key", [None, KEY])
def test_the_published_database_describes_itself(
    api: ContractApi, materialize: Materialize, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Its dictionary lists exactly the columns that are in the copy, also where masking leaves some out."""
    if key:
        monkeypatch.setenv("MASKING_KEY", key)
    assert materialize().success
    with duckdb.connect(str(warehouse_file.with_name("published.duckdb")), read_only=True) as connection:
        described = connection.execute(DESCRIBED).fetchall()
        assert described == connection.execute(COMMENTED).fetchall()
        assert ("users", "display_name") not in {row[:2] for row in described} or not key
        assert connection.execute("SELECT count(*) FROM analytics.sync_log").fetchone() == (len(RESOURCES),)
        comments = connection.execute("SELECT comment FROM duckdb_views() WHERE NOT internal").fetchall()
    assert {comment for (comment,) in comments} == {view.description for view in VIEWS.values()}


def test_the_copy_needs_no_views_of_the_warehouse(
    api: ContractApi, materialize: Materialize, warehouse_file: Path
) -> None:
    """A copy that is made before these assets, and before some of the tables, describes what it has."""
    materialize("users", "published_database")
    with duckdb.connect(str(warehouse_file.with_name("published.duckdb")), read_only=True) as connection:
        assert connection.execute(DESCRIBED).fetchall() == connection.execute(COMMENTED).fetchall()


@pytest.mark.usefixtures("each_warehouse")
def test_the_sync_log_shows_the_last_sync_of_each_resource(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """How many rows were set aside last night stands on its page; the view has every sync."""
    api.rows["users"] = [{"id": 1}, {"id": 2, "created_at": "?"}]
    materialize()
    api.rows["users"] = [{"id": 1}, {"id": 2, "created_at": "?"}, {"email": "nobody"}]
    result = materialize()
    log = lines(shown(result, "sync_log")["last_syncs"])
    assert log["resource"] == ["at (UTC)", "rows", "rejected"]
    assert log["users"][1:] == ["3", "2"]
    assert log["trainings"][1:] == ["0", "0"]
    assert len(log) == 2 + len(RESOURCES)
    names = ", ".join(column.name for column in SYNC_LOG.columns)
    assert sorted(query(f"SELECT {names} FROM sync_log")) == sorted(query(f"SELECT {names} FROM syncs"))
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey("sync_log")]
    assert event.materialization.metadata["rejected_rows"].value == 2


@pytest.mark.usefixtures("each_warehouse")
def test_before_the_first_sync_the_log_is_empty(materialize: Materialize, query: Query) -> None:
    """Asked for alone, in an empty warehouse, both are made."""
    assert materialize(*VIEWS).success
    assert query("SELECT count(*) FROM sync_log") == [(0,)]
