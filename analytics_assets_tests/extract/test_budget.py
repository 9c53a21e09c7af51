"""The budget of calls: never more than allowed, over threads and processes, and no waiting before it is spent."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pyrate_limiter import Rate

from analytics_assets import settings
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.defs.history import failure_text
from analytics_assets.extract.api import page_log
from analytics_assets.extract.budget import BLOCK, Budget, FileStore, budget
from analytics_assets.extract.budget_database import TABLE, PostgresStore
from analytics_assets.extract.faults import Fault
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, configured
from analytics_assets_tests.contract_api import ContractApi, Handler, status
from analytics_assets_tests.extract.virtual import Time
from analytics_assets_tests.postgres import ADMIN, Server


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the budget's state is kept: a file, or a database."""
    return str(tmp_path / "calls.json") if request.param == "file" else str(request.getfixturevalue("postgres_url"))


async def take(budget: Budget, calls: int = 1) -> None:
    """Take so many calls, one after the other."""
    for _ in range(calls):
        await budget.take()


async def cancelled(task: "asyncio.Task[None]") -> bool:
    """Cancel the task; whether it ended without waiting for anything and by that, and not before."""
    task.cancel()
    await asyncio.wait([task], timeout=10)
    return task.cancelled()


class Hanging(PostgresStore):
    """A database that gives its answers when it is `free`; `asked` is set as soon as there is a question."""

    def __init__(self, file: Path) -> None:
        self.file = FileStore(file)
        self.default_clock = self.file.default_clock
        self.asked, self.free = threading.Event(), threading.Event()

    def check(self, algorithm: Any, rates: list[Rate], now: int, weight: int) -> Any:
        self.asked.set()
        assert self.free.wait(30)
        return self.file.check(algorithm, rates, now, weight)

    def read(self, algorithm: Any, rates: list[Rate]) -> Any:
        return self.file.read(algorithm, rates)


def test_a_burst_costs_no_waiting(tmp_path: Path) -> None:
    """As long as there is budget, calls are taken at once, by threads and by tasks, and what is left is known."""
    time = Time()
    budget = Budget(FileStore(tmp_path / "calls.json"), 1, 1000, time, time.sleep)

    async def tasks() -> None:
        await asyncio.gather(*(budget.take() for _ in range(110)))

    with ThreadPoolExecutor(9) as threads:
        list(threads.map(lambda _: asyncio.run(tasks()), range(9)))
    assert time.seconds == 0
    assert budget.left() == 10


def test_a_spent_budget_is_waited_for(tmp_path: Path) -> None:
    """Behind the burst, calls come at the rate of the hour: forty more at ten a second take four seconds."""
    time = Time()
    budget = Budget(FileStore(tmp_path / "calls.json"), 36_000, 40, time, time.sleep)
    asyncio.run(take(budget, 80))
    assert time.seconds == 4


def test_giving_up_ends_the_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wait of an hour is said with its length, and ends at once when there is no use for the call any more."""

    async def give_up() -> None:
        waiting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.sleep(seconds)

        budget = Budget(FileStore(tmp_path / "calls.json"), 20, 20, Time(), sleep)
        task = asyncio.create_task(take(budget, 21))
        await asyncio.wait_for(waiting.wait(), 10)
        assert await cancelled(task)
        assert budget.left() == 0

    with caplog.at_level("INFO", "analytics_assets"):
        asyncio.run(give_up())
    assert caplog.messages == ["waiting 3600 s for the budget of 20 calls per hour"]


def test_who_gives_up_waits_for_nobody_and_takes_nothing(tmp_path: Path) -> None:
    """Where one waits for a call of the next hour, another behind it goes; and what there is, is left to others."""

    async def give_up() -> None:
        waiting: asyncio.Queue[float] = asyncio.Queue()

        async def sleep(seconds: float) -> None:
            waiting.put_nowait(seconds)
            await asyncio.sleep(seconds)

        budget = Budget(FileStore(tmp_path / "calls.json"), 1, 2, Time(), sleep)
        await budget.take()
        assert await cancelled(asyncio.create_task(budget.take()))
        assert budget.left() == 1
        await budget.take()
        one, other = asyncio.create_task(budget.take()), asyncio.create_task(budget.take())
        for _ in range(2):
            await asyncio.wait_for(waiting.get(), 10)
        assert await cancelled(other)
        assert not one.done()
        assert await cancelled(one)

    asyncio.run(give_up())


def test_who_gives_up_does_not_wait_for_the_store(tmp_path: Path) -> None:
    """While a database keeps the budget waiting, who asks for it can go; calls that come are left there."""

    async def give_up() -> None:
        store = Hanging(tmp_path / "calls.json")
        budget = Budget(store, 1, 2, Time())
        tasks = [asyncio.create_task(budget.take()) for _ in range(3)]
        assert await asyncio.to_thread(store.asked.wait, 10)
        assert [await cancelled(task) for task in tasks[:2]] == [True, True]
        assert not tasks[2].done()
        store.free.set()
        await asyncio.wait_for(tasks[2], 10)
        assert budget.left() == 1

    asyncio.run(give_up())


def test_threads_that_come_first_at_the_same_time_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take one block together, also where it takes long to make the budget."""
    together, made = threading.Barrier(8), []

    class Slow(FileStore):
        def __init__(self, file: Path) -> None:
            time.sleep(0.1)  # for the others to come
            made.append(file)
            super().__init__(file)

    monkeypatch.setattr("analytics_assets.extract.budget.FileStore", Slow)
    monkeypatch.setenv("API_CALLS_PER_HOUR", "1")

    def take_one(_: int) -> None:
        together.wait()
        asyncio.run(take(budget(configured())))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take_one, range(8)))
    assert len(made) == 1
    assert budget(configured()).left() == configured().api_calls_burst - 8


def test_processes_share_the_budget(where: str) -> None:
    """Three processes that read for two hours get to the call what one may have: the burst, and two hours' worth."""
    an_hour, burst, hours = 400, 1000, 2
    command = [sys.executable, "-m", "analytics_assets_tests.extract.virtual", where, str(an_hour), str(burst)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(3)]
    now = 0.0
    while now <= 3600 * hours:
        for process in processes:
            if process.stdin and now:
                process.stdin.write(f"{now}\n")
        now += min(float(process.stdout.readline()) for process in processes if process.stdout)
    taken = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(taken) == burst + hours * an_hour


@pytest.mark.parametrize(("an_hour", "days"), [(3600, 3), (1, 0)], ids=["a clock was ahead", "the rate was lower"])
def test_a_budget_dated_later_than_possible_counts_as_unused(
    where: str, caplog: pytest.LogCaptureFixture, an_hour: int, days: int
) -> None:
    """No call waits for a time that a wrong clock, or another rate, has left."""
    store, time = PostgresStore(where) if "://" in where else FileStore(Path(where)), Time()
    time.seconds = days * 24 * 3600
    asyncio.run(take(Budget(store, an_hour, 100, time, time.sleep), 100))
    time.seconds = 0
    budget = Budget(store, 3600, 100, time, time.sleep)
    asyncio.run(take(budget, 2 * BLOCK))
    assert time.seconds == 0
    [message] = [message for message in caplog.messages if "clock" in message]
    assert re.fullmatch(r"the budget is dated \d+ s in the future: a clock was wrong; it counts as unused", message)


@pytest.mark.parametrize("read_ahead", [1, 8])
def test_a_sync_spends_the_budget(
    api: ContractApi,
    materialize: Materialize,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    tmp_path: Path,
    read_ahead: int,
) -> None:
    """Every call of a sync, repeated ones too, is taken from where the budget is kept.

    What is asked for ahead of the end may be given up before it has been sent, and is spent all the same.
    """
    monkeypatch.setenv("READ_AHEAD", str(read_ahead))
    monkeypatch.setenv("API_CALLS_BURST", "500")
    monkeypatch.setenv("API_CALLS_PER_HOUR", "1")  # none comes back meanwhile
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path))
    if "://" in where:
        monkeypatch.setenv("API_BUDGET_URL", where)
    api.rows["users"] = [{"id": number} for number in range(2500)]
    api.answers["users"].append(status(500))
    [event] = materialize("users").get_asset_materialization_events()
    metadata = event.materialization.metadata
    spent = 500 - int(str(metadata["calls_left"].value))
    assert spent == metadata["calls"].value
    assert 0 <= spent - api.calls["users"] < read_ahead
    store = PostgresStore(where) if "://" in where else FileStore(Path(where))
    assert 0 <= 500 - Budget(store, 1, 500).left() - spent < BLOCK


@pytest.mark.postgres
def test_each_key_has_a_budget_of_its_own(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one token has spent, another has not, nor the same after it was replaced in mid-run."""
    time = Time()
    monkeypatch.setenv("API_KEY", "one")
    budget = Budget(PostgresStore(postgres_url), 1, 20, time, time.sleep)
    asyncio.run(take(budget))
    assert budget.left() == 19
    monkeypatch.setenv("API_KEY", "another")
    assert budget.left() == 20 + 19
    asyncio.run(take(budget, 20))
    assert (time.seconds, budget.left()) == (0, 19)


@pytest.mark.parametrize("left", ["", "{", "[]", "null", "[NaN, 1]", '["x"]'])
def test_a_damaged_file_starts_the_budget_anew(tmp_path: Path, left: str) -> None:
    """A machine that lost power may leave anything; no sync fails because of it until somebody deletes the file."""
    file = tmp_path / "calls.json"
    file.write_text(left)
    budget = Budget(FileStore(file), 10, 10)
    assert budget.left() == 10
    asyncio.run(budget.take())
    assert budget.left() == 9


def test_a_budget_that_cannot_be_asked_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A database that is away for a while is no other error than an API that is; the message holds no password."""
    monkeypatch.setenv("API_BUDGET_URL", f"postgresql://me:secret@/none?host={tmp_path}")
    with pytest.raises(Fault, match="the database of API_BUDGET_URL cannot be queried") as raised:
        budget(configured())
    assert raised.value.again
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
    for ask in (lambda: budget(configured()), checked_settings):
        with pytest.raises(settings.WrongSetting, match=r"API_BUDGET_URL cannot be read; see \.env") as raised:
            ask()
        shown = "".join(traceback.format_exception(raised.value))
        assert not re.search("s3c|ret@|loader", shown)


def test_a_budget_without_the_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed the driver learns how, before anything starts."""
    monkeypatch.setenv("API_BUDGET_URL", "postgresql://loader@127.0.0.1/db")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.delitem(sys.modules, "psycopg2.extensions", raising=False)
    with pytest.raises(settings.WrongSetting, match=r"API_BUDGET_URL needs a driver: .*\[postgres\]"):
        checked_settings()


def test_a_budget_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that accepts a connection and says nothing is one that is away, and not waited for for ever."""
    monkeypatch.setattr("analytics_assets.extract.budget_database.MOST_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("API_BUDGET_URL", f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db")
        ends = threading.Timer(30, silent.shutdown, [socket.SHUT_RDWR])  # or without a limit it never ended
        ends.start()
        with pytest.raises(Fault, match="timeout expired") as raised:
            budget(configured())
        assert raised.value.again
        ends.cancel()


@pytest.mark.postgres
def test_a_budget_that_is_locked_is_given_up(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a lock that somebody has left on it."""
    time = Time()
    budget = Budget(PostgresStore(postgres_url), 1, 20, time, time.sleep)
    asyncio.run(take(budget))
    monkeypatch.setattr("analytics_assets.extract.budget_database.MOST_SECONDS", 1)
    with closing(psycopg2.connect(postgres_url)) as other, other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {TABLE}")
        with pytest.raises(Fault, match="statement timeout") as raised:
            asyncio.run(take(budget, 20))
        assert raised.value.again
        with pytest.raises(Fault, match="statement timeout"):
            budget.left()


def test_what_is_loaded_stays_so_where_it_cannot_be_described(
    api: ContractApi, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """What fails after a sync was entered is said to be that, and keeps no pages for the next to go on with."""

    def answer(handler: Handler) -> None:
        (tmp_path / "dlt" / "calls.json").unlink()
        (tmp_path / "dlt" / "calls.json").mkdir()  # which cannot be read
        handler.send(200, api.render("users", 1, 100))

    api.rows["users"] = [{"id": 1}]
    api.always["users"] = answer
    [failure] = materialize("users").get_step_failure_events()
    assert "users was loaded, but its metadata could not be read: " in failure_text(failure)
    assert query("SELECT row_count FROM syncs") == [(1,)]
    with closing(page_log(configured(), RESOURCES["users"])) as log:
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
