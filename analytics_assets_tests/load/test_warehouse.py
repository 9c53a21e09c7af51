"""Who may have the warehouse open when."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock, Timeout
from tenacity import Retrying, stop_after_delay, wait_fixed

from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import ContractApi

READER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@contextmanager
def opened_by_another(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another program that has the file open, until the block or its standard input ends."""
    command = [sys.executable, "-c", READER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        yield process


def test_a_program_that_opens_the_warehouse_costs_no_calls(
    api: ContractApi,
    materialize: Materialize,
    query: Query,
    warehouse_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Opened while the API is read, the file makes the load wait; one line names the program, and then it loads."""
    monkeypatch.setenv("READ_AHEAD", "1")
    api.rows["users"] = [{"id": number} for number in range(250)]
    assert materialize("users").success
    api.calls.clear()
    readers: list[subprocess.Popen[bytes]] = []

    def opening(resource: str, page: int, size: int) -> Any:
        while page == 3 and not readers:
            with suppress(AssertionError):  # as long as `trainings` is being loaded
                readers.append(stack.enter_context(opened_by_another(warehouse_file)))
                threading.Timer(1, readers[0].communicate).start()  # which ends it
        return api.contract_page(resource, page, size)

    api.page = opening
    with ExitStack() as stack, caplog.at_level("WARNING", logger="analytics_assets"):
        assert materialize("trainings", "users").success
    [message] = [message for message in caplog.messages if "is open in" in message]
    assert f"(PID {readers[0].pid})" in message
    assert api.calls["users"] == 3
    assert query("SELECT count(*) FROM users") == [(250,)]


def test_a_run_that_waits_for_another_does_not_keep_it_waiting(
    api: ContractApi,
    materialize: Materialize,
    query: Query,
    warehouse_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever waits for a resource that another run syncs lets go of the warehouse, which that run needs."""
    api.rows["users"] = [{"id": 1}]
    (tmp_path / "dlt").mkdir()
    waiting = threading.Thread(target=materialize, args=("users",))
    with FileLock(tmp_path / "dlt" / "users.lock"), caplog.at_level("INFO", logger="analytics_assets"):
        waiting.start()
        for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.01)):
            with attempt:  # by then it has opened the warehouse
                assert "another run syncs users; waiting for it" in caplog.messages
        with FileLock(f"{warehouse_file}.lock", timeout=30), duckdb.connect(str(warehouse_file)):
            assert waiting.is_alive()
            assert not api.calls["users"]
    waiting.join(30)
    assert not waiting.is_alive()
    assert query("SELECT count(*) FROM users") == [(1,)]


def test_what_waits_for_another_try_keeps_nobody_waiting(warehouse_file: Path) -> None:
    """From when a run has to wait for another try, it lets go of the warehouse after each use."""
    used = warehouse()
    with used.kept_open():
        with used.writing():
            pass
        with pytest.raises(Timeout):
            FileLock(f"{warehouse_file}.lock", timeout=0).acquire()
        used.release(for_good=True)
        with used.writing():
            pass
        FileLock(f"{warehouse_file}.lock", timeout=0).acquire().lock.release()


def test_duckdb_takes_no_more_memory_than_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """`DUCKDB_MEMORY_LIMIT` holds for the connections that dlt opens, too."""
    monkeypatch.setenv("DUCKDB_MEMORY_LIMIT", "128MiB")
    with warehouse().connection() as client:
        assert client.execute_sql("SELECT current_setting('memory_limit')") == [("128.0 MiB",)]


def test_an_interrupt_that_duckdb_hears_ends_the_run(dagster_home: Path) -> None:
    """It comes as this error of DuckDB's, by itself or as the cause of dlt's; others stay what they are."""
    with pytest.raises(KeyboardInterrupt), warehouse().writing():
        raise RuntimeError("Query interrupted")
    with pytest.raises(KeyboardInterrupt), warehouse().writing():
        raise ValueError from RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="another"), warehouse().writing():
        raise RuntimeError("another")
