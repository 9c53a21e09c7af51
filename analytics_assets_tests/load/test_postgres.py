"""The warehouse on a Postgres server: equal to a DuckDB file, never in its readers' way, clear about what is wrong."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from analytics_assets import settings
from analytics_assets.defs import column_profile, explained, history
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.sample_api.process import running
from analytics_assets.settings import CREDENTIALS, KIND
from analytics_assets.tables.bookkeeping import VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests import postgres
from analytics_assets_tests.conftest import Materialize, Query, materializing_in, run, start, warehouse
from analytics_assets_tests.contents import TABLES, changed, differing, held, odd_rows, succeeded
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.defs.test_column_profile import lines, shown
from analytics_assets_tests.defs.test_ingestion import failure_of

pytestmark = pytest.mark.postgres


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have this database be the warehouse."""
    for name, value in ((KIND, "postgres"), (CREDENTIALS, url)):
        monkeypatch.setenv(name, value)


@pytest.fixture
def database(postgres_server: postgres.Server, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty database, which is the warehouse."""
    name = postgres_server.new_database()
    use(monkeypatch, postgres_server.url(name))
    return name


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
        assert differing(day, other).keys() == {"page of published_database"}
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


def test_columns_and_comments_stand_as_declared(
    database: str, postgres_server: postgres.Server, api: ContractApi, materialize: Materialize
) -> None:
    """Every table and view has its declared columns first, in their order, each with its meaning, as have they."""
    succeeded(materialize())
    with closing(postgres_server.connect(database)) as connection, connection.cursor() as cursor:
        for name, table in TABLES.items():
            cursor.execute(
                "SELECT column_name, col_description(%s::regclass, ordinal_position) FROM information_schema.columns "
                "WHERE table_schema = 'analytics' AND table_name = %s ORDER BY ordinal_position",
                (f"analytics.{name}", name),
            )
            declared = [(column.name, column.description) for column in table.columns]
            assert cursor.fetchmany(len(declared)) == declared, name
            assert not [column for column, _ in cursor.fetchall() if not column.startswith("_dlt")], name
            cursor.execute("SELECT obj_description(%s::regclass)", [f"analytics.{name}"])
            assert cursor.fetchall() == [(table.description,)], name


def test_a_reader_on_a_server_keeps_nobody_waiting(
    database: str,
    postgres_server: postgres.Server,
    api: ContractApi,
    materialize: Materialize,
) -> None:
    """With a transaction open on every table and view the next sync waits for nothing, and its rows are not seen there.

    The view of somebody else on a mart, and what others may read, stay as they are.
    """
    api.rows["registrations"] = [{"id": 1}]
    succeeded(materialize())
    counting = "SELECT count(*) FROM analytics.{}"
    with ExitStack() as stack:
        admin, reader, other = (
            stack.enter_context(closing(postgres_server.connect(database, user)))
            for user in (postgres.ADMIN, postgres.READER, postgres.READER)
        )
        ask = {name: connection.cursor() for name, connection in {"admin": admin, "old": reader, "new": other}.items()}
        ask["admin"].execute("CREATE VIEW mine AS SELECT registration_id FROM analytics.registrations_enriched")
        ask["admin"].execute(f"GRANT USAGE ON SCHEMA analytics TO {postgres.READER}")
        ask["admin"].execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {postgres.READER}")
        ask["admin"].execute(f"GRANT SELECT ON mine TO {postgres.READER}")
        # Whoever waits for a lock that the reader is in the way of, or is behind one who does, fails.
        for user in (postgres.LOADER, postgres.READER):
            ask["admin"].execute(f"ALTER ROLE {user} SET lock_timeout = '1s'")
        stack.callback(ask["admin"].execute, f"ALTER ROLE {postgres.LOADER} RESET lock_timeout")
        reader.set_session(isolation_level="REPEATABLE READ", autocommit=False)
        before = {}
        for name in TABLES:
            ask["old"].execute(counting.format(name))
            before[name] = ask["old"].fetchall()
        for rows in api.rows.values():
            rows.append({"id": 2})
        succeeded(materialize())
        for name in TABLES:
            ask["old"].execute(counting.format(name))
            assert ask["old"].fetchall() == before[name], name
            ask["new"].execute(counting.format(name))
        ask["new"].execute("SELECT count(*) FROM mine")
        assert ask["new"].fetchall() == [(2,)]


def test_a_view_in_the_way_of_new_columns_is_named(
    database: str, api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """A mart of an older version that somebody has made a view on stays as it is, and the failure says which view."""
    api.rows["trainings"] = [{"id": 1}]
    succeeded(materialize())
    with warehouse().connection() as client:
        client.execute_sql("DROP TABLE training_outcomes")
        client.execute_sql("CREATE TABLE training_outcomes AS SELECT 'old' AS training_id")
        client.execute_sql("CREATE VIEW mine AS SELECT training_id FROM training_outcomes")
    [failed] = [event for event in materialize("training_outcomes").all_events if event.is_step_failure]
    assert "view mine depends on table training_outcomes" in history.failure_text(failed)
    assert query("SELECT training_id FROM mine") == [("old",)]


def test_make_run_says_where_the_data_is(
    database: str, postgres_server: postgres.Server, dagster_home: Path, api: ContractApi
) -> None:
    """The whole job is green, there is no copy of a file, and the query it shows can be asked as it stands."""
    api.rows["registrations"] = [{"id": 1}, {"id": 2, "is_completed": True}]
    status, output, progress = run()
    assert status == 0, output + progress
    assert "published" not in output
    where, _, query = output.partition(
        f"The data is in postgresql://loader:***@127.0.0.1:{postgres_server.port}/{database}. "
    )[2].partition(":\n")
    assert where == "A query to try"
    with closing(postgres_server.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.fetchall() == [("completed", 1), ("not_started", 1)]


UNREACHABLE = "postgresql://loader:Xanthippe@127.0.0.1:1/nowhere"
DEFINED = "; ".join(
    [
        "import sys, analytics_assets.definitions as d",
        "graph = d.defs.resolve_asset_graph()",
        "print(*sorted(key.to_user_string() for key in graph.get_all_asset_keys()))",
        "print(*{kind for key in graph.get_all_asset_keys() for kind in graph.get(key).kinds})",
        "print(graph.get(d.dg.AssetKey('users')).metadata['read_it'].value)",
        "print('psycopg2' in sys.modules or 'adbc_driver_manager' in sys.modules)",
    ]
)


def test_defining_everything_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server and without drivers the assets are all there but for the copy, which is DuckDB's."""
    monkeypatch.setenv("API_KEY", "key")
    use(monkeypatch, UNREACHABLE)
    answer = subprocess.run([sys.executable, "-c", DEFINED], capture_output=True, text=True, check=True, cwd=tmp_path)
    names, kinds, read_it, drivers = answer.stdout.splitlines()
    assert set(names.split()) == {*RESOURCES, *MARTS, *VIEWS}
    assert set(kinds.split()) == {"dlt", "sql", "postgres"}
    assert read_it.startswith("SELECT * FROM analytics.")
    assert drivers == "False"


WRONG = {
    "nobody answers": (UNREACHABLE, "the warehouse cannot be opened: connection to server at"),
    "no URL": ("Xanthippe", f"{CREDENTIALS} is not set, or cannot be read for postgres"),
    "no database": ("postgresql://loader:Xanthippe@127.0.0.1", f"{CREDENTIALS} is not set, or cannot be"),
}


@pytest.mark.parametrize(("url", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_the_warehouse_is_said(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    """Before any call of the API, with the setting to look at, and without the password."""
    use(monkeypatch, url)
    failure = failure_of(materialize("users"))
    assert failure.startswith(f"users was not loaded: {message}")
    assert "Xanthippe" not in failure
    assert not api.calls


def test_a_wrong_password_is_said(
    database: str,
    postgres_server: postgres.Server,
    api: ContractApi,
    materialize: Materialize,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Postgres's own words, and the setting to look at."""
    use(monkeypatch, postgres_server.url(database, password="Xanthippe"))
    failure = failure_of(materialize("users"))
    assert 'password authentication failed for user "loader"' in failure
    assert f"check {CREDENTIALS}" in failure
    assert "Xanthippe" not in failure


@pytest.mark.parametrize("driver", ["psycopg2", "adbc_driver_manager"])
def test_a_missing_driver_is_said(
    api: ContractApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """Without either of the two nothing is loaded in another way; the extra to install is named."""
    use(monkeypatch, UNREACHABLE)
    code = f"import sys; sys.modules['{driver}'] = None; from analytics_assets import settings; "
    code += "from analytics_assets.load.warehouse import Warehouse as W; W(settings.read()).connection().__enter__()"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "the drivers for postgres are not installed: python -m pip install" in answer.stderr.splitlines()[-1]
    assert "'.[postgres]'" in answer.stderr.splitlines()[-1]


def test_a_kind_of_warehouse_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name is refused before anything is started."""
    monkeypatch.setenv("API_KEY", "key")
    monkeypatch.setenv(KIND, "postgress")
    status, _, progress = run()
    assert (status, progress.strip()) == (
        2,
        f"{KIND} is 'postgress', and must be one of dlt's, such as duckdb or postgres",
    )


def test_masking_that_would_not_happen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for a copy that there will not be is no protection, and is not taken for one."""
    use(monkeypatch, UNREACHABLE)
    checked_settings()
    monkeypatch.setenv("MASKING_KEY", "0123456789abcdef")
    with pytest.raises(settings.WrongSetting, match="MASKING_KEY masks the published copy"):
        checked_settings()


def test_distinct_values_are_counted_where_they_cannot_be_estimated(
    database: str, api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres has no estimate, so among many rows, too, the number is exact."""
    monkeypatch.setattr(column_profile, "FEW_ROWS", 100)
    api.rows["trainings"] = [{"id": n, "type": ["course", "video"][n % 2]} for n in range(300)]
    found = lines(shown(materialize("trainings"), "trainings")["profile"])
    assert (found["id"][1], found["type"][1]) == ("300", "2")


def test_two_runs_at_once_into_an_empty_database_are_both_whole(
    database: str, dagster_home: Path, api: ContractApi, query: Query
) -> None:
    """Neither gets in the way of the other's first tables, and no mart is filled twice."""
    for name in RESOURCES:
        api.rows[name] = [{"id": number} for number in range(150)]
    runs = [start("run") for _ in range(2)]
    for process in runs:
        output, progress = process.communicate(timeout=300)
        assert process.returncode == 0, output + progress
    for name in {*RESOURCES, *MARTS} - {"progress_by_day"}:
        assert query(f"SELECT count(*) FROM {name}") == [(150,)], name


def test_a_server_that_stops_while_the_api_is_read_costs_no_calls(
    postgres_server: postgres.Server,
    api: ContractApi,
    materialize: Materialize,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure says that the warehouse is gone; what was read is not requested again once it is back."""
    monkeypatch.setattr(explained, "RETRIES", 0)
    monkeypatch.setenv("READ_AHEAD", "1")
    api.rows["users"] = [{"id": number} for number in range(1000)]
    with ExitStack() as stack:
        server = stack.enter_context(postgres.serving())
        use(monkeypatch, server.url(server.new_database()))

        def page(resource: str, number: int, size: int) -> Any:
            if number == 5:
                stack.close()
            return api.contract_page(resource, number, size)

        api.page = page
        failure = failure_of(materialize("users"))
    assert "the warehouse cannot be opened: connection to server" in failure
    assert failure.endswith("Materialize it again later.")
    api.page = api.contract_page
    api.calls.clear()
    caplog.set_level("INFO")
    use(monkeypatch, postgres_server.url(postgres_server.new_database()))
    succeeded(materialize("users"))
    assert query("SELECT count(*) FROM users") == [(1000,)]
    [used] = re.findall(r"(\d+) pages of an earlier reading are used", caplog.text)
    assert api.calls["users"] == 10 - int(used) + 3, "three pages prove that the others are as they were"
