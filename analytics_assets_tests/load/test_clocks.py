"""A clock that is wrong in some syncs, or during one: the rows, deletions and marts are those of right clocks."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from analytics_assets.defs import run_plan
from analytics_assets.settings import CHECKOUT
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import DELETED_AT, HASH, TIME
from analytics_assets_tests.clocked import ASSETS, Clocked
from analytics_assets_tests.conftest import Materialize, Query
from analytics_assets_tests.contract_api import ContractApi, Handler

WRONG = {"+2h": 7200, "-2h": -7200, "+3d": 259200, "-3d": -259200}
SAID = {
    "+2h": "2:00:00 ahead of",
    "-2h": "2:00:00 behind",
    "+3d": "3 days, 0:00:00 ahead of",
    "-3d": "3 days, 0:00:00 behind",
}
LATER = 4_000_000_000  # so late that nothing is overdue by any of the clocks
COMPARED = {**RESOURCES, **MARTS, **{history.name: history for history in HISTORIES.values()}}
Chain = Sequence[tuple[str, bool]]  # the clock of each sync, and whether it reads all rows


def days(api: ContractApi, count: int) -> Iterator[int]:
    """Before each sync, users and registrations come, change, go and come back."""
    users, registrations = api.rows["users"], api.rows["registrations"]
    api.rows["trainings"] = [{"id": n} for n in range(3)]
    users[:] = [{"id": n, "created_at": time.time() - 9e6, "segments": [n]} for n in range(30)]
    registrations[:] = [
        {"id": n, "user": {"id": n % 30}, "content": {"id": n % 3}, "due_at": LATER, "score": 0} for n in range(60)
    ]
    for day in range(count):
        yield day
        gone = users.pop(day)
        users.append({"id": 100 + day, "created_at": time.time(), "segments": ["new"]})
        users[-1 - day % 2]["segments"] = [f"changed on {day}"]
        if day == 4:
            users.insert(0, gone)
        registrations.pop(2 * day)
        registrations.append({"id": 100 + day, "user": {"id": 100 + day}, "content": {"id": 1}, "is_completed": True})
        registrations[day]["score"] = day


def contents(query: Query) -> dict[str, Counter[Any]]:
    """The rows of each table that there is, but for times; of a deletion, that it is there."""
    found = {}
    for name, table in COMPARED.items():
        columns = [c.name for c in table.columns if c.type is not TIME and c.name != HASH]
        columns += [DELETED_AT] * (name in RESOURCES)
        chosen = (f"{c} IS NULL" if c == DELETED_AT else f'"{c}"' for c in columns)
        if query(f"SELECT 1 FROM information_schema.tables WHERE table_name = '{name}'"):
            found[name] = Counter(query(f"SELECT {', '.join(chosen)} FROM {name}"))
    return found


def names_on(day: int) -> Sequence[str]:
    """What is synced: everything in the end, but before that, for the time it takes, not on all days."""
    return ASSETS if day in (0, 3, 5) else ("users",)


def by_right_clocks(api: ContractApi, materialize: Materialize, query: Query, chain: Chain) -> dict[str, Counter[Any]]:
    """What a warehouse of its own has in the end if no clock is wrong."""
    for (_, whole), day in zip(chain, days(api, len(chain)), strict=True):
        config = {"ops": {"users": {"config": {"whole": whole}}}}
        names = names_on(day)
        assert materialize(*names, config=config).success
    return contents(query)


@pytest.fixture(params=[pytest.param(False, id="whole"), pytest.param(True, id="windows")])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Has users be read by windows of dates, or not."""
    if request.param:
        monkeypatch.setattr(run_plan, "WINDOW_OVERLAP", timedelta(minutes=1))
        monkeypatch.setenv("API_WINDOW_USERS", "/v1/users?start={start}&end={end}")
    return bool(request.param)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have warehouse, history and pages be in this folder."""
    folder.mkdir()
    monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(folder / "warehouse.duckdb"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    monkeypatch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
    (folder / "home").mkdir()
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", folder / "home")


def assert_seen(query: Query, chain: Chain, said: Sequence[dict[str, Any]]) -> None:
    """Log, check and ledger say which clocks were wrong, and by how much; times are right nevertheless."""
    for (clock, _), result in zip(chain, said, strict=True):
        ahead = WRONG.get(clock)
        lines = [f"the clock of this machine is {SAID.get(clock)} that of the API; times are taken from the API"]
        assert result["log"] == (lines if ahead else [])
        side = "ahead of" if ahead and ahead > 0 else "behind"
        violated = rf"Violated by 1 of \d syncs, such as \d: {abs(ahead or 0) // 10}\d s {side} the API\."
        assert all(re.fullmatch(violated, text) for text in result["checks"]), result["checks"]
        assert bool(result["checks"]) == bool(ahead)
    ledger = "SELECT clock_ahead, started_at > now() - INTERVAL '1' HOUR AND started_at <= finished_at + INTERVAL '2' "
    ledger += "SECOND AND finished_at < now() + INTERVAL '1' MINUTE FROM syncs WHERE resource = 'users' ORDER BY number"
    for (ahead, is_near), (clock, _) in zip(query(ledger), chain, strict=True):
        assert ahead == pytest.approx(WRONG.get(clock, 0), abs=1)  # a `Date` has whole seconds
        assert is_near


CHAIN: Chain = [
    ("+2h", True),
    ("+0", False),
    ("-3d", False),
    ("+3d", False),
    ("-2h", True),
    ("+0", True),
]


@pytest.mark.parametrize("windows", [True], indirect=True, ids=["windows"])
def test_wrong_clocks_change_nothing_but_what_is_said_of_them(
    api: ContractApi, windows: bool, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """Whichever way the clock jumps between syncs, tables and marts are those of right clocks, and it is said once."""
    expected = by_right_clocks(api, materialize, query, CHAIN)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, tmp_path / "wrong")
        with Clocked(tmp_path) as clocked:
            said = [clocked.sync(*step, names_on(day)) for step, day in zip(CHAIN, days(api, len(CHAIN)), strict=True)]
        assert all(result["success"] for result in said), clocked.log
        assert contents(query) == expected
        assert_seen(query, CHAIN, said)


@pytest.mark.long
@pytest.mark.parametrize("clock", WRONG)
@pytest.mark.parametrize("position", range(4))
def test_one_wrong_clock_of_four_changes_nothing(
    api: ContractApi,
    windows: bool,
    materialize: Materialize,
    query: Query,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    position: int,
    clock: str,
) -> None:
    """Each sync is a process of its own; any one of them, with any clock."""
    right: Chain = [("+0", True), ("+0", False), ("+0", True), ("+0", True)]
    expected = by_right_clocks(api, materialize, query, right)
    chain = [(clock, whole) if step == position else ("+0", whole) for step, (_, whole) in enumerate(right)]
    use(monkeypatch, tmp_path / "wrong")
    said = []
    for step, day in zip(chain, days(api, len(chain)), strict=True):
        with Clocked(tmp_path) as clocked:
            said.append(clocked.sync(*step, names_on(day)))
    assert all(result["success"] for result in said), clocked.log
    assert contents(query) == expected
    assert_seen(query, chain, said)


def test_a_clock_that_is_set_during_a_sync_is_followed(
    api: ContractApi, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set to a wrong time or back to the right one: start and end of the sync are right, and no window misses rows."""
    monkeypatch.setenv("READ_AHEAD", "1")
    monkeypatch.setenv("API_WINDOW_USERS", "/v1/users?start={start}&end={end}")
    use(monkeypatch, tmp_path / "set")
    with Clocked(tmp_path) as clocked:
        for number, (before, after) in enumerate([("+0", "+2h"), ("-3d", "+0")]):

            def page(*which: Any, after: str = after) -> Any:
                if which[1] == 2:
                    clocked.set(after)
                return api.contract_page(*which)

            api.page = page
            api.rows["users"] = [{"id": n, "created_at": time.time()} for n in range(250 + number)]
            result = clocked.sync(before, whole=True, names=["users"])
            assert result["success"], clocked.log
            assert bool(result["checks"]) == (after in WRONG)
            [times] = query(
                "SELECT number, clock_ahead, started_at BETWEEN now() - INTERVAL '2' MINUTE AND now(), finished_at "
                "BETWEEN now() - INTERVAL '2' MINUTE AND now() + INTERVAL '2' SECOND FROM syncs ORDER BY number DESC "
                "LIMIT 1"
            )
            assert times == (number + 1, pytest.approx(WRONG.get(after, 0), abs=1), True, True)
        api.page = api.contract_page
        api.rows["users"].append({"id": "new", "created_at": time.time()})
        assert clocked.sync("+0", names=["users"])["success"]
    assert query("SELECT count(*) FROM users WHERE id = 'new'") == [(1,)]
    assert query("SELECT count(*) FROM syncs WHERE window_start IS NOT NULL") == [(1,)]


@pytest.mark.long
def test_pages_kept_under_another_clock_bring_no_wrong_start(
    api: ContractApi, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that resumes them, or does not, has all rows, and began before now; the window after it misses nothing."""
    monkeypatch.setenv("API_WINDOW_USERS", "/v1/users?start={start}&end={end}")
    use(monkeypatch, tmp_path / "kept")
    api.rows["users"] = [{"id": n, "created_at": time.time()} for n in range(1000)]
    with Clocked(tmp_path) as clocked:
        for then, now in [("+3d", "+0"), ("-3d", "+0"), ("+0", "+2h"), ("+2h", "-3d"), ("+0", "+3d"), ("-2h", "+2h")]:
            api.page = lambda *which: {"data": {}} if which[1] > 5 else api.contract_page(*which)
            assert not clocked.sync(then, whole=True, names=["users"])["success"]
            api.page = api.contract_page
            assert clocked.sync(now, names=["users"])["success"], clocked.log
            api.rows["users"].append({"id": f"new {then}{now}", "created_at": time.time()})
            assert clocked.sync("+0", names=["users"])["success"]
            expected = len(api.rows["users"])
            assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(expected, expected)]
            assert query("SELECT count(*) FROM syncs WHERE started_at > now()") == [(0,)]


def no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "send_response", Handler.send_response_only)


def dated(date: str) -> Any:
    return lambda monkeypatch: monkeypatch.setattr(Handler, "date_time_string", lambda _: date)


DATES = {
    "none": no_date,
    "a word": dated("today"),
    "no such day": dated("Mon, 32 Foo 2026 00:00:00 GMT"),
    "the last year": dated("Fri, 31 Dec 9999 23:59:59 GMT"),
    "1970": dated(formatdate(0, usegmt=True)),
}


@pytest.mark.parametrize("date", DATES)
def test_without_a_readable_date_no_window_is_read(
    api: ContractApi, windows: bool, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    """The whole resource is read each time, and no check complains."""
    DATES[date](monkeypatch)
    api.rows["users"] = [{"id": n, "created_at": time.time() - 9e6} for n in range(3)]
    for _ in range(2):
        result = materialize("users")
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
    assert query("SELECT window_start IS NULL, clock_ahead, row_count FROM syncs") == [(True, None, 3)] * 2


@pytest.mark.parametrize("seconds", [7200, -7200, 259200, -259200, 9e6])
def test_an_api_whose_clock_is_wrong_is_gone_by(
    api: ContractApi,
    windows: bool,
    materialize: Materialize,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    """Times and windows are by its clock, by which it dates its rows; from one sync to the next nothing is missed."""
    api_time = lambda _=None: formatdate(time.time() + seconds, usegmt=True)  # noqa: E731
    monkeypatch.setattr(Handler, "date_time_string", api_time)
    for number in range(3):
        api.rows["users"].append({"id": number, "created_at": time.time() + seconds})
        result = materialize("users")
        assert result.success
        [check] = [check for check in result.get_asset_check_evaluations() if not check.passed]
        assert check.check_name == "clock_is_right"
    assert query("SELECT count(*) FROM users") == [(3,)]
    near = f"abs(epoch(started_at) - epoch(now()) - {seconds}) < 60"
    assert query(f"SELECT window_start IS NOT NULL, {near} FROM syncs ORDER BY number") == [
        (False, True),
        (windows, True),
        (windows, True),
    ]
