"""The budget of calls: never more than allowed, over threads and processes, and no waiting before it is spent."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from analytics_assets.budget import BLOCK, Budget
from analytics_assets_tests.conftest import Materialize
from analytics_assets_tests.contract_api import ContractApi

GO_ON = threading.Event()


def test_a_burst_costs_no_waiting(tmp_path: Path) -> None:
    """As long as there is budget, calls are taken at once, and what is left is known."""
    budget = Budget(tmp_path / "calls.json", an_hour=1, burst=1000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: budget.take(GO_ON), range(990)))
    assert budget.left() == 10


def test_a_spent_budget_is_waited_for(tmp_path: Path) -> None:
    """Behind the burst, calls come at the rate of the hour: forty more at ten a second take four seconds."""
    budget = Budget(tmp_path / "calls.json", an_hour=36_000, burst=40)
    started = time.monotonic()
    for _ in range(80):
        budget.take(GO_ON)
    assert time.monotonic() - started > 3.5


def test_giving_up_ends_the_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wait of an hour is said with its length, and ends at once when there is no use for the call any more."""
    budget, enough = Budget(tmp_path / "calls.json", an_hour=20, burst=20), threading.Event()
    for _ in range(20):
        budget.take(enough)
    threading.Timer(0.2, enough.set).start()
    with caplog.at_level("INFO"):
        budget.take(enough)
    [message] = caplog.messages
    assert message.startswith("waiting 3")
    assert message.endswith("s for the budget of 20 calls an hour")


def test_processes_share_the_budget(tmp_path: Path) -> None:
    """Several processes at once take no more together than one may."""
    file = tmp_path / "calls.json"
    code = (
        "import sys, threading; from pathlib import Path; from analytics_assets.budget import Budget\n"
        "enough = threading.Event(); threading.Timer(1.5, enough.set).start()\n"
        "budget, taken = Budget(Path(sys.argv[1]), an_hour=1, burst=300), 0\n"
        "while True:\n"
        "    budget.take(enough)\n"
        "    if enough.is_set(): break\n"
        "    taken += 1\n"
        "print(taken)"
    )
    command = [sys.executable, "-c", code, str(file)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    taken = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(taken) == 300
    assert Budget(file, an_hour=1, burst=300).left() == 0


def test_a_sync_spends_the_budget(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every call of a sync, repeated ones too, is taken from the file in the Dagster home."""
    monkeypatch.setenv("API_CALLS_BURST", "500")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    api.rows["users"] = [{"id": number} for number in range(2500)]
    [event] = materialize("users").get_asset_materialization_events()
    spent = 500 - int(str(event.materialization.metadata["calls_left"].value))
    assert spent == api.calls["users"]
    assert 0 <= 500 - Budget(tmp_path / "home" / "calls.json", 3000, 500).left() - spent < BLOCK
