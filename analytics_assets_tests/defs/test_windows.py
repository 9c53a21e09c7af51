"""Reading only the rows of a window of dates: what it sees, what it leaves to the whole reading, what it must not.

Rows of the test's own API are dated by `created_at`; a window begins at the start of the sync before it, to the second.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from analytics_assets import settings
from analytics_assets.defs import run_plan
from analytics_assets.defs.automation import jobs, schedules
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.defs.dagster_resources import DAGSTER_RESOURCES
from analytics_assets.defs.ingestion import assets
from analytics_assets.defs.sensors import look_for_new_rows
from analytics_assets.extract.api import page_url
from analytics_assets.sample_api.process import running
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import QUIET, Materialize, Query, configured, run, warehouse
from analytics_assets_tests.contract_api import ContractApi, status
from analytics_assets_tests.extract.test_resume import pages_on_disk

WHOLE = {"ops": {"users": {"config": {"whole": True}}}}
DAY = 86_400
DELETED = "SELECT id FROM users WHERE _deleted_at IS NOT NULL"
Metadata = Callable[..., dict[str, Any]]


def old(*ids: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": number, "created_at": time.time() - 30 * DAY, **fields} for number in ids]


def new(*ids: int, **fields: Any) -> list[dict[str, Any]]:
    return old(*ids, **fields, created_at=time.time())


@pytest.fixture
def windows(api: ContractApi, each_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> ContractApi:
    """An API with windows for `users`, and 300 rows that were made a month ago."""
    monkeypatch.setenv("API_WINDOW_USERS", "/v1/users?start={start}&end={end}")
    monkeypatch.setattr(run_plan, "WINDOW_OVERLAP", timedelta(hours=0))
    api.rows["users"] = old(*range(300))
    return api


@pytest.fixture
def sync(instance: dg.DagsterInstance) -> Metadata:
    """Syncs `users`, without its checks, and gives what is noted of it."""
    users = next(asset for asset in assets(configured(), warehouse()) if asset.key == dg.AssetKey("users"))

    def run(*, whole: bool = False) -> dict[str, Any]:
        config = QUIET | (WHOLE if whole else {})
        result = dg.materialize([users], config, instance, DAGSTER_RESOURCES)
        assert result.success
        [event] = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}

    return run


def test_a_first_sync_is_whole_and_the_next_reads_what_is_new(
    windows: ContractApi, sync: Metadata, query: Query
) -> None:
    """Rows that have come since are loaded at one call, and `syncs` says which sync was of a window."""
    assert "window_start" not in sync()
    windows.rows["users"] += new(300, 301)
    windows.calls.clear()
    noted = sync()
    assert (noted["pages"], noted["rows_read"], windows.calls["users"]) == (1, 2, 1)
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(302, 302)]
    assert query("SELECT window_start IS NULL, row_count, pages FROM syncs ORDER BY started_at") == [
        (True, 300, 3),
        (False, 2, 1),
    ]
    assert query("SELECT b.window_start = date_trunc('second', a.started_at) OR b.window_start = a.started_at "
                 "FROM syncs AS a, syncs AS b WHERE a.pages = 3 AND b.pages = 1") == [(True,)]  # fmt: skip


def test_only_the_whole_reading_sees_older_changes_and_deletions(
    windows: ContractApi, sync: Metadata, query: Query
) -> None:
    """A change of an old row comes with the reconciliation, a deletion with the second; windows are no misses."""
    sync()
    windows.rows["users"][7]["email"] = "changed@example.org"
    del windows.rows["users"][8]
    for whole, changed, deleted in ((False, 0, 0), (True, 1, 0), (False, 1, 0), (False, 1, 0), (True, 1, 1)):
        sync(whole=whole)
        assert query("SELECT count(email), count(_deleted_at) FROM users") == [(changed, deleted)]
    windows.rows["users"] += new(8)
    sync()
    assert query(DELETED) == [], "a row that comes back in a window is back"
    assert query("SELECT count(*) FROM users") == [(300,)]


def test_windows_and_a_reconciliation_end_in_what_a_full_read_gives(
    windows: ContractApi, sync: Metadata, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are added, changed and deleted over some syncs, late ones too, stand as if all were read at once."""
    monkeypatch.setattr(run_plan, "WINDOW_OVERLAP", timedelta(hours=48))
    rows = windows.rows["users"]
    sync()
    for turn in range(3):
        rows += new(*range(1000 + 10 * turn, 1010 + 10 * turn), email=f"{turn}@example.org")
        rows += old(2000 + turn, email="late", created_at=time.time() - DAY)
        rows[turn]["email"] = f"changed in turn {turn}"
        del rows[100 + turn]
        sync()
        assert query("SELECT count(*) FROM users WHERE email = 'late'") == [(turn + 1,)], "the overlap has late rows"
    for _ in range(2):
        sync(whole=True)
    assert query("SELECT id, email FROM users WHERE _deleted_at IS NULL ORDER BY id") == sorted(
        (str(row["id"]), row.get("email")) for row in rows
    )
    assert query(f"SELECT count(*) FROM ({DELETED}) AS d") == [(3,)]


def test_a_crash_in_a_window_loses_nothing(
    windows: ContractApi, materialize: Materialize, sync: Metadata, tmp_path: Path
) -> None:
    """After windows that failed, the next begins where the last that succeeded did; it is read from its first page."""
    sync()
    for number in (300, 301):
        windows.rows["users"] += new(number)
        windows.answers["users"].append(status(404))
        assert not materialize("users").success
        assert not pages_on_disk(tmp_path)
    assert sync()["rows_read"] == 2


@pytest.mark.long
@pytest.mark.usefixtures("dagster_home")
@pytest.mark.parametrize("point", ["call dlt:Pipeline.normalize", "call dlt:Pipeline.load", "sql syncs.*VALUES"])
def test_a_kill_in_a_window_loses_nothing(
    windows: ContractApi, query: Query, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Whichever step of a window a process is killed in, the next window has its rows, once each."""
    for name in RESOURCES:
        monkeypatch.setenv(f"API_WINDOW_{name.upper()}", f"/v1/{name}?start={{start}}&end={{end}}")
        windows.rows[name] = old(*range(3))
    assert run()[0] == 0
    for number in (3, 4):
        for name in RESOURCES:
            windows.rows[name] += new(number)
        if number == 3:
            killed = [sys.executable, "-m", "analytics_assets_tests.killed", *point.split()]
            assert subprocess.run(killed, capture_output=True).returncode == -signal.SIGKILL
    assert run()[0] == 0
    for name in RESOURCES:
        assert query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(5, 5)]
    assert query("SELECT count(*) FROM syncs WHERE window_start IS NULL") == [(6,)]


def test_a_broken_whole_reading_is_gone_on_with(
    windows: ContractApi, materialize: Materialize, sync: Metadata, query: Query
) -> None:
    """The sync after a reconciliation that was broken off is whole, and takes over the pages that it has read."""
    windows.rows["users"] = old(*range(3000))
    sync()
    windows.page = lambda *which: {"data": {}} if which[1] > 20 else windows.contract_page(*which)
    assert not materialize("users", config=WHOLE).success
    windows.page, broken = windows.contract_page, datetime.now(UTC)
    noted = sync()
    assert "window_start" not in noted
    assert noted["resumed_pages"] == 19
    [(started,)] = query("SELECT max(started_at) FROM syncs")
    assert started < broken, "the next window has the rows that the kept pages lack"
    assert datetime.fromtimestamp(sync()["window_start"], UTC) == started


def test_another_api_is_read_whole(windows: ContractApi, sync: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of one API says nothing of where a window of another has to begin."""
    sync()
    monkeypatch.setenv("API_BASE_URL", windows.url.replace("127.0.0.1", "localhost"))
    with monkeypatch.context() as once:
        once.setenv("ACCEPT_FEWER_ROWS", "true")
        assert "window_start" not in sync()
    assert "window_start" in sync()
    monkeypatch.setenv("WHOLE_SYNC", "true")
    assert "window_start" not in sync()


def test_an_empty_window_is_no_shrunk_resource(
    windows: ContractApi, materialize: Materialize, sync: Metadata, query: Query
) -> None:
    """Nothing new is no failure and no changed API; a whole reading is still compared with the last whole one."""
    windows.rows["users"] = old(*range(300), email="e", shoe_size=44)
    for _ in range(3):
        result = materialize("users")
        assert all(check.passed for check in result.get_asset_check_evaluations())
    assert query("SELECT row_count FROM syncs ORDER BY started_at") == [(300,), (0,), (0,)]
    windows.rows["users"] += new(300, hat_size=56)
    [change] = [check for check in materialize("users").get_asset_check_evaluations() if not check.passed]
    assert change.description == "Changed: new fields: hat_size."
    assert all(check.passed for check in materialize("users", config=WHOLE).get_asset_check_evaluations())
    windows.rows["users"] = old(*range(100))
    assert not materialize("users", config=WHOLE).success
    windows.calls.clear()
    windows.rows["users"] = old(*range(301))
    sync(whole=True)
    assert windows.calls["users"] == 4, "the last page of the last whole reading is still known"


def test_rows_set_aside_stay_so_until_they_are_seen_again(
    windows: ContractApi, sync: Metadata, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window forgets only the rejected rows that it has shown again; none of them counts as deleted later."""
    monkeypatch.setattr(run_plan, "WINDOW_OVERLAP", timedelta(hours=24))
    rejected = "SELECT coalesce(id, 'none') FROM rejected_rows ORDER BY 1"
    unreadable = {"segments": float("nan")}
    windows.rows["users"] += [*old(7000, **unreadable), *new(7001, 7002, **unreadable)]
    windows.rows["users"].append({"created_at": time.time(), "email": "no id"})
    sync()
    assert query(rejected) == [("7000",), ("7001",), ("7002",), ("none",)]
    windows.rows["users"][-3]["segments"] = []
    sync()
    assert query(rejected) == [("7000",), ("7002",), ("none",)]
    sync(whole=True)
    assert query(rejected) == [("7000",), ("7002",), ("none",)]
    assert query(DELETED) == []


def test_the_sensor_knows_the_rows_that_windows_have_added(
    windows: ContractApi, sync: Metadata, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growth is asked for once, though the sync that reads it sees none of the rows before."""

    def grown() -> list[dg.AssetKey] | None:
        answer = look_for_new_rows(dg.build_sensor_context(instance), configured())
        assert not isinstance(answer, list)
        return list(answer.asset_selection or []) if isinstance(answer, dg.RunRequest) else None

    monkeypatch.setattr("analytics_assets.defs.sensors.RESOURCES", {"users": RESOURCES["users"]})
    sync()
    for number in (300, 301):
        assert grown() is None
        windows.rows["users"] += new(number)
        assert grown() == [dg.AssetKey("users")]
        sync()
    assert grown() is None


def test_a_ledger_of_before_is_one_of_whole_syncs(windows: ContractApi, sync: Metadata, query: Query) -> None:
    """With a warehouse that was made before there were windows, the next sync is one, after its last."""
    sync()
    with warehouse().connection() as client:
        client.execute_sql("DROP VIEW IF EXISTS sync_log")
        client.execute_sql("ALTER TABLE syncs DROP COLUMN window_start")
    windows.rows["users"] += new(300)
    assert sync()["rows_read"] == 1
    assert query("SELECT window_start IS NULL FROM syncs ORDER BY started_at") == [(True,), (False,)]


@pytest.mark.usefixtures("each_warehouse")
def test_the_published_form_of_windows(materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample API's two windows, asked as in `.env.example`, give the rows of the last days; the log shows which."""
    lines = [line.lstrip("#") for line in (settings.CHECKOUT / ".env.example").read_text().splitlines()]
    for name, value in (line.split("=", 1) for line in lines if line.startswith("API_WINDOW_")):
        monkeypatch.setenv(name, value)
    with running("--token", "t", "--registrations", "2000", "--awarded-certifications", "300") as url:
        monkeypatch.setenv("API_BASE_URL", url)
        monkeypatch.setenv("API_KEY", "t")
        names = ("registrations", "awarded_certifications", "sync_log")
        assert materialize(*names).success
        whole = query("SELECT id, created_at, _deleted_at FROM registrations ORDER BY id")
        requests.post(f"{url}/rows", json={"registrations": 30, "awarded_certifications": 2}, timeout=10)
        monkeypatch.setattr(run_plan, "WINDOW_OVERLAP", timedelta(hours=48))
        result = materialize(*names)
        [log] = [event for event in result.get_asset_materialization_events() if event.step_key == "sync_log"]
        assert re.search(
            r"^registrations, since \d\d \w+\|", str(log.materialization.metadata["last_syncs"].value), re.M
        )
        counts = query("SELECT resource, row_count FROM sync_log WHERE window_start IS NOT NULL ORDER BY 1")
        assert [name for name, _ in counts] == ["awarded_certifications", "registrations"]
        assert all(added <= rows < 100 for (_, rows), added in zip(counts, (2, 30), strict=True))
        assert query("SELECT count(*) FROM registrations") == [(2030,)]
        assert query("SELECT id, created_at, _deleted_at FROM registrations ORDER BY id LIMIT 2000") == whole


def test_the_reconciliation_has_its_schedule() -> None:
    """It is there as soon as one resource has a window, reads just those whole, and runs if automation does."""
    code = (
        "import json; from analytics_assets.definitions import defs; "
        "names = [s.name for s in defs.schedules]; job = defs.resolve_job_def(defs.schedules[-1].job_name); "
        "print(json.dumps([names, sorted(k.to_user_string() for k in job.asset_layer.executable_asset_keys), "
        "defs.schedules[-1].default_status.value, job.run_config, "
        "'the weekly full syncs' in defs.resolve_asset_graph().get(list(job.asset_layer.executable_asset_keys)[0])"
        ".description]))"
    )

    assert [schedule.name for schedule in schedules(configured())] == ["nightly_schedule"]
    settings = {"API_WINDOW_USERS": "/users?start={start}", "AUTOMATION": "running"}
    answer = subprocess.run([sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [
        ["nightly_schedule", "reconciliation_schedule"],
        ["users"],
        "RUNNING",
        WHOLE,
        True,
    ]


def test_what_the_reconciliation_asks_for_is_read_whole(
    windows: ContractApi, sync: Metadata, instance: dg.DagsterInstance, query: Query
) -> None:
    """The run that its schedule requests reads all rows, where any other reads a window."""
    sync()
    sync()
    schedule, job = schedules(configured())[1], jobs(configured())[-1]
    there = dg.Definitions(
        assets(configured(), warehouse()), jobs=[job], resources=DAGSTER_RESOURCES, executor=dg.in_process_executor
    )
    job = there.resolve_job_def(job.name)
    with dg.build_schedule_context(instance) as context:
        [request] = schedule.evaluate_tick(context).run_requests or []
    assert job.execute_in_process(request.run_config, instance).success
    assert query("SELECT window_start IS NULL, row_count FROM syncs ORDER BY started_at") == [
        (True, 300),
        (False, 0),
        (True, 300),
    ]


def test_what_a_window_asks_for_is_sent_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter that comes twice is sent twice; pages and their size are the reader's; no password is shown."""
    monkeypatch.setenv("API_BASE_URL", "https://ann:secret@api.example.com/base/")
    monkeypatch.setenv("API_WINDOW_USERS", "/v1/users?status=a&status=b&start={start}&per_page=5&page=3&path=x")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    where = "https://api.example.com/base/v1/users"
    window = f"{where}?status=a&status=b&start=1767225600&path=x&per_page=100&page=7"
    assert page_url(configured(), RESOURCES["users"], start)(7) == window
    assert page_url(configured(), RESOURCES["users"], None)(7) == f"{where}?per_page=100&page=7"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_WINDOW_USERS", "/v1/users"),
        ("API_WINDOW_USER", "/v1/users?start={start}"),
        ("API_WINDOW_users", "/v1/users?start={start}"),
        ("API_WINDOW_USERS", "https://127.0.0.1/v1/users?start={start}"),
        ("API_WINDOW_USERS", "//127.0.0.1/v1/users?start={start}"),
        ("API_WINDOW_USERS", "/{x}"),
    ],
)
def test_a_window_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A misspelled resource, or a path without a bound, is said with the setting's name before anything starts."""
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"^{name} .*must (end with the name of a resource|be a path like)"):
        checked_settings()
