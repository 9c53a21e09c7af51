"""Several machines that write to one Postgres server at once, each with folders of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analytics_assets.settings import CREDENTIALS, KIND
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests import postgres
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import TOKEN, ContractApi
from analytics_assets_tests.load.test_ledger import failure_of

pytestmark = pytest.mark.postgres
Start = Callable[..., "subprocess.Popen[str]"]
SLOW, QUICK = "slow-token", "quick-token"
RUN = ["-m", "analytics_assets", "run"]


@pytest.fixture
def database(postgres_server: postgres.Server, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty database, which is the warehouse."""
    name = postgres_server.new_database()
    monkeypatch.setenv(KIND, "postgres")
    monkeypatch.setenv(CREDENTIALS, postgres_server.url(name))
    return name


@pytest.fixture
def run_on(api: ContractApi, database: str, tmp_path: Path) -> Start:
    """Starts a command on a machine, `make run` if none is given."""
    api.tokens |= {SLOW, QUICK}

    def start(machine: str, *command: str, token: str = TOKEN, **settings: str) -> "subprocess.Popen[str]":
        folders = {"DAGSTER_HOME": str(tmp_path / machine / "home"), "DLT_DATA_DIR": str(tmp_path / machine / "dlt")}
        return subprocess.Popen(
            [sys.executable, *(command or RUN)],
            env={**os.environ, **folders, "API_KEY": token, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def ended(process: "subprocess.Popen[str]") -> str:
    """What a command that succeeded has said."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def fill(api: ContractApi, value: str, count: int = 250) -> None:
    for name in RESOURCES:
        api.rows[name] = [{"id": n, "name": value, "path_name": value, "email": value} for n in range(count)]
    for row in api.rows["registrations"]:
        row |= {"user": {"id": row["id"]}, "content": {"id": row["id"]}, "pass_status": value}


def assert_whole(query: Query, syncs: int, value: str, count: int = 250) -> None:
    """All rows are there once and have this value; the syncs of each resource have numbers without gaps."""
    for name in (*RESOURCES, *MARTS):
        key = (RESOURCES.get(name) or MARTS[name]).key
        assert query(f"SELECT count(*), count(DISTINCT {key}) FROM {name}") == [(count, count)], name
    for name in RESOURCES:
        assert query(f"SELECT count(*) FROM {name} WHERE _deleted_at IS NOT NULL") == [(0,)]
        numbers = query(f"SELECT number FROM syncs WHERE resource = '{name}' ORDER BY 1")
        assert numbers == [(n,) for n in range(1, syncs + 1)], name
    for name, column in {"trainings": "name", "users": "email", "registrations": "pass_status"}.items():
        assert query(f"SELECT DISTINCT {column} FROM {name}") == [(value,)], name


class Gate:
    """Holds the answers to the slow token, from the second page of a resource on, until it is opened."""

    def __init__(self, api: ContractApi, resource: str) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        send = api.contract_page

        def page(name: str, number: int, size: int) -> Any:
            body = send(name, number, size)
            if name == resource and number == 2 and api.sent[SLOW] and not self.reached.is_set():
                self.reached.set()
                self.opened.wait(90)
            return body

        api.page = page


@pytest.mark.parametrize("resource", ["registrations", "users"])
@pytest.mark.parametrize("is_first", [True, False], ids=["empty", "loaded"])
def test_a_slow_machine_brings_no_older_rows_back(
    api: ContractApi, run_on: Start, query: Query, resource: str, is_first: bool
) -> None:
    """Another one that is quick loads newer rows while it reads: it reads them again, and both succeed."""
    fill(api, "oldest")
    if not is_first:
        ended(run_on("quick", token=QUICK))
    fill(api, "older")
    gate = Gate(api, resource)
    slow = run_on("slow", token=SLOW)
    assert gate.reached.wait(60)
    fill(api, "newer")
    ended(run_on("quick", token=QUICK))
    gate.opened.set()
    output = ended(slow)
    assert f"another sync of {resource} was loaded while this one was reading" in output
    assert_whole(query, 3 - is_first, "newer")


def test_one_machine_loads_while_the_other_waits(api: ContractApi, run_on: Start, query: Query) -> None:
    """Two that start at once into an empty database are both whole."""
    fill(api, "new")
    for process in [run_on("one", token=QUICK), run_on("other", token=QUICK)]:
        ended(process)
    assert_whole(query, 2, "new")


@pytest.mark.parametrize("point", ["call dlt:Pipeline.load", r"sql INSERT.INTO.\W?syncs"])
def test_a_machine_that_dies_with_the_lock_stops_no_other(
    api: ContractApi, run_on: Start, query: Query, point: str
) -> None:
    """The server releases the lock of a killed process, and the rows that it has loaded do no harm."""
    fill(api, "before")
    killed = run_on("one", "-m", "analytics_assets_tests.killed", *point.split())
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    fill(api, "after")
    began = time.monotonic()
    ended(run_on("other"))
    assert time.monotonic() - began < 60
    assert_whole(query, 1, "after")
    fill(api, "last")
    ended(run_on("one"))
    assert_whole(query, 2, "last")


def test_pages_kept_by_one_machine_are_not_used_after_a_sync_of_another(
    api: ContractApi, run_on: Start, query: Query
) -> None:
    """They are older than what the other one has loaded."""
    fill(api, "older", 1000)
    api.page = lambda *which: {"data": {}} if which[1] > 5 else api.contract_page(*which)
    broken = run_on("one")
    broken.communicate(timeout=120)
    assert broken.returncode == 1
    api.page = api.contract_page
    fill(api, "newer", 1000)
    ended(run_on("other"))
    output = ended(run_on("one"))
    assert "of an earlier reading are used" not in output
    assert_whole(query, 2, "newer", 1000)


def test_a_run_that_waits_for_another_on_its_machine_reads_once(api: ContractApi, run_on: Start, query: Query) -> None:
    """It gets the number after that of the other, and is not overtaken by it."""
    fill(api, "older")
    gate = Gate(api, "registrations")
    first = run_on("one", token=SLOW)
    assert gate.reached.wait(60)
    second = run_on("one", token=QUICK)
    assert second.stdout
    assert any("another run syncs registrations; waiting for it" in line for line in second.stdout)
    fill(api, "newer")
    gate.opened.set()
    outputs = [ended(first), ended(second)]
    assert not any("the whole resource is read again" in output for output in outputs)
    assert_whole(query, 2, "newer")


def test_a_server_that_ends_idle_sessions_does_not_release_the_lock(
    api: ContractApi, run_on: Start, query: Query, postgres_server: postgres.Server, database: str
) -> None:
    """The session that holds it is idle while the rows are loaded."""
    fill(api, "new")
    with closing(postgres_server.connect("postgres", postgres.ADMIN)) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {database} SET idle_session_timeout = '500ms'")
    with warehouse().writing():
        time.sleep(1.5)
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
        held += f"(SELECT oid FROM pg_database WHERE datname = '{database}')"
        with closing(postgres_server.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(held)
            assert cursor.fetchall() == [(1,)]


def test_a_sync_that_was_overtaken_twice_says_so(
    api: ContractApi, materialize: Materialize, query: Query, postgres_server: postgres.Server, database: str
) -> None:
    """It is tried again once; then it fails, and loads nothing."""
    api.rows["users"] = [{"id": 1}]
    assert materialize("users").success

    def page(*which: Any) -> Any:
        with closing(postgres_server.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE analytics.syncs SET number = number + 1")  # as if another sync had been loaded
        return {"data": {"users": [{"id": 1}, {"id": 2}]}, "has_more": False}

    api.page = page
    message = failure_of(materialize("users"))
    assert "another sync of users was loaded while this one was reading" in message
    assert message.endswith("Materialize it again later.")
    assert api.calls["users"] >= 3
    assert query("SELECT count(*), max(_changed_in) FROM users") == [(1, 1)]
