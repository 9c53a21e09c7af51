"""What an operator does by the commands in deploy/README.md: backing up, restoring, replacing the key."""

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_assets.settings import CHECKOUT
from analytics_assets_tests.conftest import Materialize, Query, configured, materializing_in, warehouse
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.load.test_postgres import use
from analytics_assets_tests.postgres import ADMIN, LOADER, PASSWORD, READER, Server

README = (CHECKOUT / "deploy" / "README.md").read_text().partition("## Backing up")[2]
COMMENTS = {
    "duckdb": "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'analytics'",
    "postgres": "SELECT table_name, column_name, "
    "col_description(cast(table_schema || '.' || table_name AS regclass), ordinal_position) "
    "FROM information_schema.columns WHERE table_schema = 'analytics' ORDER BY table_name, ordinal_position",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the README's paths are those of the test."""
    (tmp_path / "backup").mkdir()
    (tmp_path / "data").symlink_to(tmp_path)
    return tmp_path


def command(beginning: str) -> str:
    """The command of the README's part on backups that begins so."""
    [line] = re.findall(rf"^{re.escape(beginning)}.*$", README, re.MULTILINE)
    return str(line)


def in_container(beginning: str) -> str:
    """The command that begins so in the container of Postgres, to be called here."""
    container = "docker compose exec -T postgres "
    return command(container + beginning).removeprefix(container)


def shell(line: str, folder: Path) -> None:
    subprocess.run(["bash", "-c", line], cwd=folder, check=True, timeout=60)


def live(api: ContractApi, materialize: Materialize) -> None:
    """A sync whose rows are then lost together with the database: one more, one changed, one gone."""
    api.rows["users"] += [{"id": "later"}]
    api.rows["users"][7]["email"] = "changed@example.org"
    del api.rows["users"][8]
    assert materialize("users").success


def goes_on(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A sync on the restored warehouse has every row, and infers what only it and the syncs before can tell."""
    assert query("SELECT count(*), count(email), count(_deleted_at) FROM users") == [(250, 0, 0)]
    for deleted in (0, 1):
        assert materialize("users").success
        assert query("SELECT count(*), count(email), count(_deleted_at) FROM users") == [(251, 1, deleted)]
    assert {key for (key,) in query("SELECT id FROM users WHERE _deleted_at IS NULL")} == {
        str(row["id"]) for row in api.rows["users"]
    }
    assert query("SELECT row_count, deleted FROM syncs ORDER BY started_at") == [(250, 0), (250, 0), (250, 1)]


@pytest.fixture
def backed_up(api: ContractApi, materialize: Materialize) -> ContractApi:
    """An API whose 250 rows are in the warehouse."""
    api.rows["users"] = [{"id": number} for number in range(250)]
    assert materialize("users", "data_dictionary", "sync_log").success
    return api


def test_a_restored_duckdb_file_is_gone_on_with(
    backed_up: ContractApi, materialize: Materialize, query: Query, folder: Path
) -> None:
    """The copy is taken while nothing writes, and holds comments, views and all that the next sync needs."""
    copy = command("flock")
    with warehouse().writing():
        busy = subprocess.run(["bash", "-c", copy.replace("flock", "flock --nonblock", 1)], cwd=folder)
        assert busy.returncode == 1, "it waits for who writes"
    shell(copy, folder)
    comments = query(COMMENTS["duckdb"])
    live(backed_up, materialize)
    for file in folder.glob("warehouse.duckdb*"):
        file.unlink()
    shell(command("cp"), folder)
    assert query(COMMENTS["duckdb"]) == comments
    goes_on(backed_up, materialize, query)


def test_a_copy_of_a_duckdb_file_in_use_is_whole(
    backed_up: ContractApi, query: Query, warehouse_file: Path, tmp_path: Path
) -> None:
    """What the README says of `COPY FROM DATABASE` holds: it keeps every row and comment, in a smaller file."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{warehouse_file}' AS warehouse (READ_ONLY)")
        connection.execute(f"ATTACH '{tmp_path}/copy.duckdb' AS copy")
        connection.execute("COPY FROM DATABASE warehouse TO copy")
    comments, rows = query(COMMENTS["duckdb"]), query("SELECT * FROM users ORDER BY id")
    shutil.copy(tmp_path / "copy.duckdb", warehouse_file)
    assert query(COMMENTS["duckdb"]) == comments
    assert query("SELECT * FROM users ORDER BY id") == rows


@pytest.mark.postgres
def test_a_restored_postgres_database_is_gone_on_with(
    postgres_server: Server, api: ContractApi, materialize: Materialize, query: Query, folder: Path,
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Dump and restore keep comments, views, grants, who may enter, and all that the next sync needs."""
    database = postgres_server.new_database()
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")
    for name, value in zip(names, ("127.0.0.1", str(postgres_server.port), ADMIN, PASSWORD), strict=True):
        monkeypatch.setenv(name, value)
    use(monkeypatch, postgres_server.url(database))
    request.getfixturevalue("backed_up")
    with closing(postgres_server.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        cursor.execute(f"GRANT CONNECT ON DATABASE {database} TO {READER}")
        cursor.execute(f"GRANT USAGE ON SCHEMA analytics TO {READER}; GRANT SELECT ON analytics.users TO {READER}")
    comments = query(COMMENTS["postgres"])
    shell(in_container("pg_dump --format=custom warehouse").replace(" warehouse ", f" {database} "), folder)
    live(api, materialize)
    shell(in_container("dropdb --force warehouse").replace("warehouse", database), folder)
    shell(in_container("pg_restore --create --exit-on-error --dbname=postgres < backup/warehouse"), folder)
    assert query(COMMENTS["postgres"]) == comments
    goes_on(api, materialize, query)
    with closing(postgres_server.connect("postgres", ADMIN)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datacl::text FROM pg_database WHERE datname = %s", [database])
        assert cursor.fetchone() == (f"{{{LOADER}=CTc/{LOADER},=T/{LOADER},{READER}=c/{LOADER}}}",)
    with closing(postgres_server.connect(database, READER)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM analytics.users")
        assert cursor.fetchone() == (251,)


def test_a_restored_dagster_home_is_gone_on_with(api: ContractApi, dagster_home: Path, folder: Path) -> None:
    """The restored history has the runs before the backup, and the next run is added to it."""
    for runs in (1, 2):
        with dg.DagsterInstance.get() as instance:
            assert materializing_in(instance)("users").success
            assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"] * runs
            assert len(instance.fetch_materializations(dg.AssetKey("users"), limit=5).records) == runs
        if runs == 1:
            shell(command("tar --create"), folder)
            shutil.rmtree(dagster_home)
            shell(command("tar --extract"), folder)


def test_the_key_is_replaced_in_mid_run(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that is under way takes the new key from the secret's file, and does not notice that the old one ends."""
    secret = tmp_path / "api-key"
    secret.write_text("old\n")
    monkeypatch.setattr("dlt.common.configuration.providers.environ.SECRET_STORAGE_PATH", f"{tmp_path}/%s")
    api.tokens = {"old"}
    api.rows["users"] = [{"id": number} for number in range(8000)]

    def page(resource: str, number: int, size: int) -> Any:
        if number == 20:
            api.tokens.add("new")
            secret.write_text("new\n")
        if number == 60:
            api.tokens.remove("old")
        return api.contract_page(resource, number, size)

    api.page = page
    assert materialize("users").success
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(8000, 8000)]
    assert api.sent["old"] + api.sent["new"] == sum(api.calls.values()) <= 80 + configured().read_ahead
    assert min(api.sent.values()) >= 20
