"""The budget of calls: never more than allowed, over threads and processes, and no waiting before it is spent."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from analytics_assets.budget import BLOCK, Budget, FileStore, PostgresStore, budget
from analytics_assets_tests.conftest import Materialize
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.postgres import Server
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
    pytest.importorskip("psycopg2")
    monkeypatch.setenv("API_BUDGET_URL", f"postgresql://me:secret@/none?host={tmp_path}")
    with pytest.raises(requests.ConnectionError, match="the database of API_BUDGET_URL cannot be asked") as raised:
        budget()
    assert "secret" not in str(raised.value)
