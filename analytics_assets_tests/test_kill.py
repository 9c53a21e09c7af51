"""Real processes that are killed at every stage, and again on the repeat: what the run after that leaves."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import history
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import QUIET, Query, run, start, warehouse
from analytics_assets_tests.contract_api import ContractApi

long = pytest.mark.long
POINTS = {
    "read": ("call", "analytics_assets.extract.reading:PageLog.append 13"),
    "normalize": ("call", "dlt:Pipeline.normalize"),
    "load": ("call", "dlt:Pipeline.load"),
    "merge, rows deleted": ("sql", r"INSERT INTO \S*\"?analytics\"?\.\"?registrations"),
    "ledger": ("sql", r"INSERT INTO \W?syncs"),
    "mart, rows deleted": ("sql", r"INSERT INTO \W?registrations_enriched"),
}
OF_A_FILE = {
    "copy into staging": ("sql", r"COPY|INSERT INTO \"?analytics_staging"),
    "publish": ("call", "analytics_assets.load.published:comments"),
    "publish, before the last step": ("call", "pathlib:Path.replace"),
}
SOON = ("merge, rows deleted", "publish, before the last step")  # by `make test` as well
CASES = [
    *(
        pytest.param("duckdb", *point, marks=[] if name in SOON else long, id=f"duckdb, {name}")
        for name, point in {**POINTS, **OF_A_FILE}.items()
    ),
    *(
        pytest.param("postgres", *point, marks=pytest.mark.postgres, id=f"postgres, {name}")
        for name, point in POINTS.items()
    ),
]


@pytest.fixture
def growing(api: ContractApi, each_warehouse: str) -> ContractApi:
    """An API that has been synced once, and has grown and changed since."""
    for name in RESOURCES:
        api.rows[name] = [{"id": number, "name": "before"} for number in range(250)]
    assert run()[0] == 0
    for name in RESOURCES:
        api.rows[name] = [{"id": number, "name": "after"} for number in range(450)]
    return api


def rows_for_analysts(query: Query, folder: Path) -> int:
    """Rows of a mart as analysts see it: in the copy, or on a server, of which there is none, in the warehouse."""
    count = "SELECT count(*) FROM registrations_enriched"
    if not warehouse().published_file:
        return int(query(count)[0][0])
    with duckdb.connect(str(folder / "published.duckdb"), read_only=True) as published:
        published.execute("USE analytics")
        return int(published.execute(count).fetchall()[0][0])


def assert_exact(query: Query, home: Path, folder: Path) -> None:
    """One whole run after whatever has happened: exact tables, and nothing left over."""
    code, output, progress = run()
    assert code == 0, output + progress
    for name in RESOURCES:
        assert query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(450, 450)], name
        [(entered, last)] = query(f"SELECT count(DISTINCT number), max(number) FROM syncs WHERE resource = '{name}'")
        assert entered == last, "numbers have no gap"
        assert query(f"SELECT count(*) FROM {name} WHERE _changed_in NOT BETWEEN 1 AND {last}") == [(0,)]
    for name, past in HISTORIES.items():
        assert query(f"SELECT count(*), count(DISTINCT id) FROM {past.name} WHERE to_sync IS NULL") == [(450, 450)]
        tracked = ", ".join(column.name for column in past.columns if column.name in RESOURCES[name].fields)
        states = f"SELECT {tracked} FROM {past.name} WHERE to_sync IS NULL"
        assert query(f"({states}) EXCEPT (SELECT {tracked} FROM {name})") == [], "no state is of a lost sync"
    assert query("SELECT DISTINCT name FROM trainings") == [("after",)]
    assert query("SELECT count(*), count(DISTINCT registration_id) FROM registrations_enriched") == [(450, 450)]
    assert query("SELECT count(*) FROM users WHERE _deleted_at IS NOT NULL") == [(0,)]
    assert rows_for_analysts(query, folder) == 450
    assert not [file for file in (folder / "dlt" / "pages").rglob("*") if file.is_file()]
    assert not list(folder.glob("*.new"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert not history.end_lost_runs(instance)


@pytest.mark.parametrize(("each_warehouse", "kind", "point"), CASES, indirect=["each_warehouse"])
def test_a_kill_and_another_on_the_repeat_leave_no_damage(
    growing: ContractApi,
    query: Query,
    dagster_home: Path,
    tmp_path: Path,
    kind: str,
    point: str,
) -> None:
    """Counts are exact, the copy can be read all the time, and nothing stays locked, started or on the disk."""
    command = [
        sys.executable,
        "-m",
        "analytics_assets_tests.killed",
        kind,
        *(point.split() if kind == "call" else [point]),
    ]
    for _ in range(2):
        killed = subprocess.run(command, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
        assert rows_for_analysts(query, tmp_path) == 250
    assert_exact(query, dagster_home, tmp_path)


def main_job() -> dg.JobDefinition:
    return defs.resolve_job_def("analytics_job")


def test_what_was_loaded_before_a_crash_is_not_read_again(
    api: ContractApi, query: Query, dagster_home: Path, tmp_path: Path
) -> None:
    """A re-execution from failure of a killed run reads only the resources that it had not loaded."""
    for name in RESOURCES:
        api.rows[name] = [{"id": number} for number in range(250)]
    command = [sys.executable, "-m", "analytics_assets_tests.killed", "sql", r"INSERT INTO \S*\Wusers\W"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    api.calls.clear()
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        [lost] = history.end_lost_runs(instance)
        options = dg.ReexecutionOptions.from_failure(lost, instance)
        again = dg.execute_job(dg.reconstructable(main_job), instance, QUIET, reexecution_options=options)
    assert again.success
    assert set(api.calls) == {"users"}
    for name in RESOURCES:
        assert query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(250, 250)]
    assert query("SELECT count(*) FROM registrations_enriched") == [(250,)]


def test_a_reading_killed_at_90_percent_is_gone_on_with(api: ContractApi, query: Query, dagster_home: Path) -> None:
    """Of 1,000 pages, 900 of which were read before kill -9, the repeat asks for 150 at the most, and has all rows."""
    api.rows["users"] = [{"id": number} for number in range(100_000)]
    point = ["analytics_assets.extract.reading:PageLog.append", "903"]  # after a page each of the resources before
    command = [sys.executable, "-m", "analytics_assets_tests.killed", "call", *point]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert api.calls["users"] > 800
    api.calls.clear()
    code, output, progress = run()
    assert code == 0, output + progress
    assert 100 <= api.calls["users"] <= 150
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(100_000, 100_000)]


@long
def test_twenty_kills_at_random_leave_no_damage(
    growing: ContractApi,
    query: Query,
    dagster_home: Path,
    tmp_path: Path,
) -> None:
    """Whenever it is killed, the run after it is exact; the moments are random each time, and printed."""

    def slowly(*which: Any) -> Any:
        time.sleep(0.02)
        return growing.contract_page(*which)

    growing.page = slowly
    for seconds in (random.SystemRandom().uniform(1, 6) for _ in range(20)):
        print(f"killed after {seconds:.3f} s")  # noqa: T201
        process = start("run")
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert_exact(query, dagster_home, tmp_path)
