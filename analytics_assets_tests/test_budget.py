"""The budget of calls: never more than allowed, over threads and processes, and no waiting before it is spent."""

import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest
import requests

from analytics_assets import environment
from analytics_assets.budget import BLOCK, TABLE, Budget, FileStore, PostgresStore, budget
from analytics_assets.history import failure_text
from analytics_assets.schema import RESOURCES
from analytics_assets.source import page_log
from analytics_assets_tests.conftest import Materialize, Query
from analytics_assets_tests.contract_api import ContractApi, Handler
from analytics_assets_tests.postgres import ADMIN, Server
from analytics_assets_tests.virtual import Time


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the budget's state is kept: a file, or a database."""
    return str(tmp_path / "calls.json") if request.param == "file" else str(request.getfixturevalue("postgres_url"))


def test_a_burst_costs_no_waiting(tmp_path: Path) -> None:
    """As long as there is budget, calls are taken at once, and what is left is known."""
    time = Time()
    budget = Budget(FileStore(tmp_path / "calls.json"), an_hour=1, burst=1000, clock=time)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: budget.take(time), range(990)))
    assert time.seconds == 0
    assert budget.left() == 10


def test_a_spent_budget_is_waited_for(tmp_path: Path) -> None:
    """Behind the burst, calls come at the rate of the hour: forty more at ten a second take four seconds."""
    time = Time()
    budget = Budget(FileStore(tmp_path / "calls.json"), an_hour=36_000, burst=40, clock=time)
    for _ in range(80):
        budget.take(time)
    assert time.seconds == 4


def test_giving_up_ends_the_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wait of an hour is said with its length, and ends at once when there is no use for the call any more."""
    time = Time(end=1)
    budget = Budget(FileStore(tmp_path / "calls.json"), an_hour=20, burst=20, clock=time)
    with caplog.at_level("INFO"):
        for _ in range(21):
            budget.take(time)
    assert caplog.messages == ["waiting 3600 s for the budget of 20 calls an hour"]


def test_who_gives_up_waits_for_nobody_and_takes_nothing(tmp_path: Path) -> None:
    """Where one waits for a call of the next hour, another behind it goes; and what there is, is left to others."""
    budget = Budget(FileStore(tmp_path / "calls.json"), an_hour=1, burst=2)
    needed, giving_up = threading.Event(), threading.Event()
    giving_up.set()
    budget.take(needed)
    budget.take(giving_up)
    assert budget.left() == 1
    budget.take(needed)
    with ThreadPoolExecutor(2) as threads, ExitStack() as end:
        end.callback(needed.set)
        one = threads.submit(budget.take, needed)
        time.sleep(0.1)  # until it waits
        threads.submit(budget.take, giving_up).result(10)
        assert not one.done()


def test_threads_that_come_first_at_the_same_time_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take one block together, also where it takes long to make the budget."""
    together, made = threading.Barrier(8), []

    class Slow(FileStore):
        def __init__(self, file: Path) -> None:
            time.sleep(0.1)  # for the others to come
            made.append(file)
            super().__init__(file)

    monkeypatch.setattr("analytics_assets.budget.FileStore", Slow)
    monkeypatch.setenv("API_CALLS_PER_HOUR", "1")

    def take(_: int) -> None:
        together.wait()
        budget().take(threading.Event())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(8)))
    assert len(made) == 1
    assert budget().left() == int(environment.DEFAULTS["API_CALLS_BURST"]) - 8


def test_processes_share_the_budget(where: str) -> None:
    """Three processes that read for two hours get to the call what one may have: the burst, and two hours' worth."""
    an_hour, burst, hours = 400, 1000, 2
    budget = map(str, (an_hour, burst, hours * 3600))
    command = [sys.executable, "-m", "analytics_assets_tests.virtual", where, *budget]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    taken = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(taken) == burst + hours * an_hour


def test_a_sync_spends_the_budget(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, where: str, tmp_path: Path
) -> None:
    """Every call of a sync, repeated ones too, is taken from where the budget is kept."""
    monkeypatch.setenv("API_CALLS_BURST", "500")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path))
    if "://" in where:
        monkeypatch.setenv("API_BUDGET_URL", where)
    api.rows["users"] = [{"id": number} for number in range(2500)]
    [event] = materialize("users").get_asset_materialization_events()
    spent = 500 - int(str(event.materialization.metadata["calls_left"].value))
    assert spent == api.calls["users"]
    store = PostgresStore(where) if "://" in where else FileStore(Path(where))
    assert 0 <= 500 - Budget(store, 3000, 500).left() - spent < BLOCK


@pytest.mark.postgres
def test_each_key_has_a_budget_of_its_own(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one token has spent, another has not, nor the same after it was replaced in mid-run."""
    time = Time()
    monkeypatch.setenv("API_KEY", "one")
    budget = Budget(PostgresStore(postgres_url), an_hour=1, burst=20, clock=time)
    budget.take(time)
    assert budget.left() == 19
    monkeypatch.setenv("API_KEY", "another")
    assert budget.left() == 20 + 19
    for _ in range(20):
        budget.take(time)
    assert (time.seconds, budget.left()) == (0, 19)


def test_a_budget_that_cannot_be_asked_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A database that is away for a while is no other error than an API that is; the message holds no password."""
    monkeypatch.setenv("API_BUDGET_URL", f"postgresql://me:secret@/none?host={tmp_path}")
    with pytest.raises(requests.ConnectionError, match="the database of API_BUDGET_URL cannot be asked") as raised:
        budget()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://loader:s3cret@127.0.0.1/db",
        "'postgresql://loader:s3cret@127.0.0.1/db'",
        "postgresql://loader:s3c/ret@127.0.0.1/db",
        "postgresql://loader:s3c@ret@127.0.0.1/db",
        "postgresql://loader:s3c%ret@127.0.0.1/db",
        "postgresql://loader:p@s3c/ret@127.0.0.1/db",
    ],
)
def test_a_budget_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An address that the driver would misunderstand is said before anything starts, and nothing of it is shown."""
    monkeypatch.setenv("API_BUDGET_URL", url)
    for ask in (budget, environment.check):
        with pytest.raises(environment.WrongSetting, match=r"API_BUDGET_URL cannot be read; see \.env") as raised:
            ask()
        shown = "".join(traceback.format_exception(raised.value))
        assert not re.search("s3c|ret@|loader", shown)


def test_a_budget_without_the_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed the driver learns how, before anything starts."""
    monkeypatch.setenv("API_BUDGET_URL", "postgresql://loader@127.0.0.1/db")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.delitem(sys.modules, "psycopg2.extensions", raising=False)
    with pytest.raises(environment.WrongSetting, match=r"API_BUDGET_URL needs a driver: .*\[postgres\]"):
        environment.check()


def test_a_budget_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that accepts a connection and says nothing is one that is away, and not waited for for ever."""
    monkeypatch.setattr("analytics_assets.budget.MOST_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("API_BUDGET_URL", f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db")
        ends = threading.Timer(30, silent.shutdown, [socket.SHUT_RDWR])  # or without a limit it never ended
        ends.start()
        with pytest.raises(requests.ConnectionError, match="timeout expired"):
            budget()
        ends.cancel()


@pytest.mark.postgres
def test_a_budget_that_is_locked_is_given_up(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a lock that somebody has left on it."""
    time = Time()
    budget = Budget(PostgresStore(postgres_url), an_hour=1, burst=20, clock=time)
    budget.take(time)
    monkeypatch.setattr("analytics_assets.budget.MOST_SECONDS", 1)
    with closing(psycopg2.connect(postgres_url)) as other, other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {TABLE}")
        with pytest.raises(requests.ConnectionError, match="statement timeout"):
            budget.left()


def test_what_is_loaded_stays_so_where_it_cannot_be_described(
    api: ContractApi, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """What fails after a sync was entered is said to be that, and keeps no pages for the next to go on with."""

    def answer(handler: Handler) -> None:
        (tmp_path / "dlt" / "calls.json").write_text("broken")
        handler.send(200, api.render("users", 1, 100))

    api.rows["users"] = [{"id": 1}]
    api.always["users"] = answer
    [failure] = materialize("users").get_step_failure_events()
    assert "users was loaded, but what it holds could not be described: " in failure_text(failure)
    assert query("SELECT row_count FROM syncs") == [(1,)]
    with closing(page_log(RESOURCES["users"])) as log:
        assert not len(log)


@pytest.mark.postgres
def test_a_budget_that_has_gone_away_fails_no_sync(
    api: ContractApi, materialize: Materialize, postgres_server: Server, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    """Calls that were taken are enough: that it cannot be said how many are left costs the sync nothing."""
    name = postgres_server.new_database()
    monkeypatch.setenv("API_BUDGET_URL", postgres_server.url(name))

    def answer(handler: Handler) -> None:
        with closing(postgres_server.connect("postgres", ADMIN)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        handler.send(200, api.render("users", 1, 100))

    api.always["users"] = answer
    [event] = materialize("users").get_asset_materialization_events()
    assert "calls_left" not in event.materialization.metadata
    assert query("SELECT count(*) FROM syncs") == [(1,)]
