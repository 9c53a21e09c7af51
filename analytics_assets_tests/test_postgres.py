"""The warehouse on a Postgres server: equal to a DuckDB file, never in its readers' way, clear about what is wrong."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from analytics_assets import history, warehouse
from analytics_assets.sample_api.process import running
from analytics_assets.schema import LEDGER, MARTS, RESOURCES, VIEWS
from analytics_assets_tests import postgres
from analytics_assets_tests.conftest import Query, materializing_in
from analytics_assets_tests.contract_api import ContractApi

pytestmark = pytest.mark.postgres

TABLES = {**RESOURCES, **MARTS, **LEDGER, **VIEWS}
OF_THE_MOMENT = {"_last_seen_at", "started_at", "finished_at", "synced_at", "calls"}  # or of how it was read
COMMENTS = {
    "duckdb": "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'analytics'",
    "postgres": "SELECT table_name, column_name, "
    "col_description(cast(table_schema || '.' || table_name AS regclass), ordinal_position) "
    "FROM information_schema.columns WHERE table_schema = 'analytics' ORDER BY table_name, ordinal_position",
}


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have this database be the warehouse."""
    for name, value in zip(warehouse.DESTINATION, ("postgres", url), strict=True):
        monkeypatch.setenv(name, value)


@pytest.fixture
def database(postgres_server: postgres.Server, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty database, which is the warehouse."""
    name = postgres_server.new_database()
    use(monkeypatch, postgres_server.url(name))
    return name


def odd_rows(api: ContractApi) -> None:
    """Rows with what one database may take otherwise than another."""
    texts = [
        "",
        " ",
        "%s %",
        "it's",
        'a "b"',
        "back\\slash",
        "\t\n",
        "ŠÉ 漢字 🎓",
        "e\u0301",
        "nu\u0000l",
        "null",
        "{}",
    ]
    api.rows["users"] = [
        {"id": n, "email": text, "segments": [text], "first_name": text, text or "new": text, "created_at": 0.001 * n}
        for n, text in enumerate(texts)
    ]
    api.rows["trainings"] = [{"id": "t", "name": "", "created_at": "1900-01-01T00:00:00.000001Z"}, {"id": "T"}]
    numbers = [0, -0.0, 0.1 + 0.2, 1e-300, 1e300, 12345678901234567890, True, None, "NaN", "soon"]
    api.rows["registrations"] = [
        {"id": 2**63 + n, "score": number, "user": {"id": n}, "content": {"id": "t"}, "created_at": 1.6e12 + n / 3}
        for n, number in enumerate(numbers)
    ]
    api.rows["registrations"] += [{"id": None}, {"completed_at": "no"}]


def changed(rows: list[Any]) -> list[Any]:
    """The rows a day later: one is gone, one is new, and one has another value."""
    return [{**rows[0], "name": "new", "score": 3}, *rows[2:], {"id": "later"}]


OF_THE_WAY = {
    "preview",
    "profile",
    "last_syncs",
    "seconds",
    "load_id",
    "dagster/table_name",
    "calls",
    "calls_left",
    "api",
}


def held(query: Query, result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What a warehouse holds after a run, with how often, and what the run says of it."""
    found: dict[str, Any] = {}
    for table in TABLES.values():
        names = [column.name for column in table.columns if column.name not in OF_THE_MOMENT]
        values = ("_deleted_at IS NULL" if name == "_deleted_at" else f'"{name}"' for name in names)
        rows = query(f"SELECT {', '.join(values)} FROM {table.name}")
        if table.name in MARTS:
            rows = [tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row) for row in rows]  # of a mean
        found[table.name] = Counter(rows)
    for check in result.get_asset_check_evaluations():
        found[f"{check.asset_key.path[-1]}.{check.check_name}"] = (check.passed, check.description)
    for event in result.get_asset_materialization_events():
        metadata = event.materialization.metadata
        found[f"page of {event.step_key}"] = {k: v for k, v in metadata.items() if k not in OF_THE_WAY}
    return found


def succeeded(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    assert result.success, [history.failure_text(event) for event in result.all_events if event.is_step_failure]
    return result


def on_both(days: Callable[[], Iterator[None]], query: Query, use_postgres: Callable[[], None]) -> None:
    """Sync on each of the days into a DuckDB file, and again into a Postgres server: both hold the same, day by day."""
    seen = []
    for kind in ("duckdb", "postgres"):
        if kind == "postgres":
            use_postgres()
        with dg.DagsterInstance.ephemeral() as instance:
            materialize = materializing_in(instance)
            seen.append([held(query, succeeded(materialize())) for _ in days()])
    duckdb, server = seen
    for day, other in zip(duckdb, server, strict=True):
        day.pop("page of published_database")
        assert day.keys() == other.keys()
        for what, found in day.items():
            if isinstance(found, Counter):
                assert (other[what] - found, found - other[what]) == (Counter(), Counter()), what
            assert other[what] == found, what
    assert sum(duckdb[-1]["users"].values())


@pytest.fixture
def use_postgres(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: use(monkeypatch, postgres_server.url(postgres_server.new_database()))


def test_odd_values_are_the_same_as_in_duckdb(api: ContractApi, query: Query, use_postgres: Callable[[], None]) -> None:
    """Rows, rejected rows, deletions, marts, syncs and what is said of them, over days on which rows change."""

    def days() -> Iterator[None]:
        odd_rows(api)
        yield
        for name, rows in api.rows.items():
            api.rows[name] = changed(rows) if rows else []
        yield
        yield

    on_both(days, query, use_postgres)


def test_the_sample_is_the_same_as_in_duckdb(
    query: Query, use_postgres: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value of every table and view, with the oddities and the growth of the sample API."""
    monkeypatch.setenv("API_KEY", "t")

    def days() -> Iterator[None]:
        # So late that nothing is overdue: how long it is may change between the two warehouses.
        with running("--token", "t", "--now", "2090-01-01") as url:
            monkeypatch.setenv("API_BASE_URL", url)
            yield
            requests.post(f"{url}/rows", json={"users": -30, "registrations": 150}, timeout=30).raise_for_status()
            yield

    on_both(days, query, use_postgres)
