"""What tests share: an API on loopback, a warehouse and a Dagster instance of their own, and questions to both."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_assets import settings
from analytics_assets.definitions import defs
from analytics_assets.defs import explained
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.settings import CHECKOUT
from analytics_assets_tests import postgres
from analytics_assets_tests.contract_api import TOKEN, ContractApi, serving

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Materialize = Callable[..., dg.ExecuteInProcessResult]
Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def warehouse_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own warehouse and waits for nothing between two tries."""
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "duckdb")
    monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(file))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.001")
    monkeypatch.setattr(explained, "RETRY_SECONDS", 0)
    monkeypatch.setenv("API_RESOURCE_PATH", "/v1/{resource}")
    monkeypatch.setenv("API_KEY", TOKEN)  # without one, sample data would go elsewhere
    for name in ("FAILURE_WEBHOOK_URL", "PUBLISHED_FILE"):
        monkeypatch.delenv(name, raising=False)
    return file


def configured() -> settings.Settings:
    """The settings as they are now."""
    return settings.read()


def warehouse() -> Warehouse:
    """The warehouse as configured now."""
    return Warehouse(configured())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A Postgres server for all tests of a process; each takes a `new_database`."""
    with postgres.serving() as server:
        yield server


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def each_warehouse(request: pytest.FixtureRequest, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has the test run on each kind of warehouse; gives the kind as dlt names it."""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "postgres")
        monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", server.url(server.new_database()))
    return str(request.param)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractApi]:
    """A server of the API's contract, and the environment that points to it."""
    with serving() as api:
        monkeypatch.setenv("API_BASE_URL", api.url)
        monkeypatch.setenv("API_KEY", TOKEN)
        yield api


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    """Materializes the named assets (all, if none is named) and runs their checks, in one run of the main job."""
    return materializing_in(instance)


def materializing_in(instance: dg.DagsterInstance) -> Materialize:
    everything = [key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()]

    def run(*names: str, config: Mapping[str, Any] = MappingProxyType({})) -> dg.ExecuteInProcessResult:
        # These definitions were loaded for DuckDB; for a server there is no copy.
        there = [name for name in everything if name != "published_database" or warehouse().published_file]
        selection = [dg.AssetKey(name) for name in names or there]
        job = defs.resolve_job_def("analytics_job")
        return job.execute_in_process({**QUIET, **config}, instance, asset_selection=selection, raise_on_error=False)

    return run


@pytest.fixture
def query() -> Query:
    """Asks the warehouse in DuckDB's SQL, through the driver of the warehouse alone."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        if os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] == "postgres":
            return postgres.ask(os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"], sql)
        with duckdb.connect(os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"], read_only=True) as connection:
            connection.execute("USE analytics")
            return connection.execute(sql).fetchall()

    return ask


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster home of the test's own, with the project's settings."""
    home = tmp_path / "dagster_home"
    home.mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "analytics_assets", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run() -> tuple[int, str, str]:
    """Exit status, output and progress of one `make run`."""
    process = start("run")
    output, progress = process.communicate(timeout=120)
    return process.returncode, output, progress
