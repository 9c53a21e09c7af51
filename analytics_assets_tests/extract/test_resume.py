"""A reading that was broken off is gone on with: what it costs, when it starts over, what it leaves."""

import os
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import dagster as dg
import pytest

from analytics_assets.defs import explained
from analytics_assets.extract import pages
from analytics_assets.extract.api import page_log
from analytics_assets.extract.pages import PageLog
from analytics_assets.load import duckdb_file
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, configured
from analytics_assets_tests.contract_api import Answer, ContractApi, Handler, body, status
from analytics_assets_tests.load.test_warehouse import opened_by_another

USERS = RESOURCES["users"]
IN_2100 = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def broken(api: ContractApi, each_warehouse: str, materialize: Materialize) -> ContractApi:
    """An API of 100 pages, whose reading has failed at page 91."""
    api.rows["users"] = [{"id": number, "email": f"{number}@example.org"} for number in range(10_000)]

    def page(resource: str, page: int, size: int) -> Any:
        return {"data": {}} if page > 90 else api.contract_page(resource, page, size)

    api.page = page
    assert not materialize("users").success
    api.page = api.contract_page
    api.calls.clear()
    api.pages.clear()
    return api


def asked(api: ContractApi, up_to: int) -> list[int]:
    """The pages of users that were asked for, in order; what was asked for ahead of a break may arrive after it."""
    return sorted(page for resource, page in api.pages if resource == "users" and page <= up_to)


def calls_of(result: dg.ExecuteInProcessResult) -> int:
    """The calls that a sync of users counted."""
    [event] = result.get_asset_materialization_events()
    calls = event.materialization.metadata["calls"].value
    assert isinstance(calls, int)
    return calls


def write(file: Path, bodies: dict[float, bytes]) -> None:
    """A log of these bodies, by the times at which they were read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    heads = {pages.HEAD.pack(read, len(content), crc32(content)): content for read, content in bodies.items()}
    file.write_bytes(b"".join(head + content for head, content in heads.items()))


def pages_on_disk(folder: Path) -> list[Path]:
    return [file for file in (folder / "dlt" / "pages").rglob("*") if file.is_file()]


def test_what_was_read_is_not_requested_again(
    broken: ContractApi, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """The repeat takes the pages behind the break and few more, every row arrives, and nothing stays on the disk."""
    [log] = pages_on_disk(tmp_path)
    with log.open("r+b") as opened:
        opened.write(struct.pack("<d", time.time() - 3600))  # when its first page was read
    result = materialize("users")
    assert asked(broken, up_to=90) == [1, 45, 90, 90]
    assert calls_of(result) <= 10 + 4 + configured().read_ahead
    assert query("SELECT count(*), count(DISTINCT id), max(_page) FROM users") == [(10_000, 10_000, 100)]
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["resumed_pages"].value == 89
    assert query("SELECT started_at < now() - INTERVAL '1 hour' FROM syncs") == [(True,)]
    seconds = event.materialization.metadata["seconds"].value
    assert isinstance(seconds, float)
    assert seconds < 3600, "since the reading that was broken off"
    assert query("SELECT pages, resumed_pages FROM syncs") == [(100, 89)]
    assert not pages_on_disk(tmp_path)


def test_logs_that_others_remove_meanwhile_are_no_concern(tmp_path: Path) -> None:
    """A log is opened while those of other resources come and go beside it."""
    ended = threading.Event()

    def others() -> None:
        while not ended.is_set():
            PageLog(tmp_path / "trainings" / "log", 3600).remove()

    with ThreadPoolExecutor(1) as threads:
        removing = threads.submit(others)
        try:
            for _ in range(500):  # without care one in a dozen fails
                PageLog(tmp_path / "users" / "log", 3600).close()
        finally:
            ended.set()
        removing.result()


def test_rows_that_have_moved_make_it_start_over(broken: ContractApi, materialize: Materialize, query: Query) -> None:
    """Where a page holds other rows by now, if only the first does, nothing of what was read before is used."""
    broken.rows["users"].insert(0, {"id": "new"})
    del broken.rows["users"][50]
    assert materialize("users").success
    assert broken.calls["users"] >= 101
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(10_000, 10_000)]


def test_a_resource_that_is_now_shorter_is_read_anew(
    broken: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Where the last page is gone, nothing of what was read before is used."""
    del broken.rows["users"][500:]
    assert materialize("users").success
    assert query("SELECT count(*) FROM users") == [(500,)]


def test_rows_at_the_end_do_not_make_it_start_over(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch, warehouse_file: Path
) -> None:
    """A reading that was complete, but could not be loaded, goes on with what has been added since."""
    api.rows["users"] = [{"id": number} for number in range(1050)]
    assert materialize("trainings").success
    monkeypatch.setattr(duckdb_file, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(explained, "RETRIES", 0)
    with ExitStack() as stack:

        def opening(resource: str, page: int, size: int) -> Any:
            if page == 11:
                stack.enter_context(opened_by_another(warehouse_file))
            return api.contract_page(resource, page, size)

        api.page = opening
        assert not materialize("users").success
    api.page = api.contract_page
    api.pages.clear()
    api.rows["users"] += [{"id": number} for number in range(1050, 1150)]
    result = materialize("users")
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(1150, 1150)]
    assert asked(api, up_to=11) == [1, 6, 11, 11]
    assert calls_of(result) <= 3 + 2 + configured().read_ahead


@pytest.mark.parametrize("name", ["API_KEY", "API_RESOURCE_PATH"])
def test_another_api_starts_over(
    broken: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What one token, or one path, has read is not loaded for another."""
    before = page_log(configured(), USERS, 1)
    monkeypatch.setenv(name, "other/{resource}")
    after = page_log(configured(), USERS, 1)
    assert (len(before), len(after)) == (90, 0)
    before.close()
    after.close()


Later = Callable[[float], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Lets hours pass for the kept pages."""

    def passed(hours: float) -> None:
        monkeypatch.setattr(pages, "time", SimpleNamespace(time=lambda: time.time() + 3600 * hours))

    return passed


def test_what_is_old_is_not_used(broken: ContractApi, materialize: Materialize, tmp_path: Path, later: Later) -> None:
    """A reading that does not come further is kept for some hours, however often that is tried; then it starts over."""
    broken.page = lambda *which: {"data": {}} if which[1] > 90 else broken.contract_page(*which)
    for hours in (5, 5.9):
        later(hours)
        broken.pages.clear()
        assert not materialize("users").success
        assert asked(broken, up_to=90) == [1, 45, 90, 90]
    broken.page = broken.contract_page
    broken.calls.clear()
    later(6.1)
    assert materialize("users").success
    assert broken.calls["users"] >= 100


def test_a_first_load_may_take_days(
    broken: ContractApi, materialize: Materialize, query: Query, later: Later, tmp_path: Path
) -> None:
    """What counts is when a reading last came further, and not when it was started; other readings leave it alone."""
    [file] = pages_on_disk(tmp_path)
    for hours, page in ((5, 93), (10, 96), (15, 98)):
        broken.page = lambda *which, end=page: {"data": {}} if which[1] > end else broken.contract_page(*which)
        later(hours)
        assert not materialize("users").success
        os.utime(file, (time.time(), time.time() + 3600 * hours))
        assert materialize("trainings").success
    broken.page = broken.contract_page
    broken.pages.clear()
    later(20)
    result = materialize("users")
    assert asked(broken, up_to=98) == [1, 49, 98, 98]
    assert calls_of(result) <= 3 + 3 + configured().read_ahead
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(10_000, 10_000)]


def test_old_pages_do_not_stay_on_the_disk(broken: ContractApi, materialize: Materialize, tmp_path: Path) -> None:
    """Pages of a resource that is not read any more go when another is."""
    os.utime(pages_on_disk(tmp_path)[0], (0, 0))
    assert materialize("trainings").success
    assert not pages_on_disk(tmp_path)


def test_pages_from_the_future_are_used(
    broken: ContractApi, materialize: Materialize, query: Query, tmp_path: Path
) -> None:
    """A reading whose clock was ahead when it was broken off is gone on with, and its sync did not start later."""
    [file] = pages_on_disk(tmp_path)
    log = PageLog(file, 3600)
    bodies = [log[page] for page in range(1, len(log) + 1)]
    log.close()
    write(file, {IN_2100 + page: content for page, content in enumerate(bodies)})
    assert materialize("users").success
    assert asked(broken, up_to=90) == [1, 45, 90, 90]
    assert query("SELECT count(*), count(DISTINCT id) FROM users") == [(10_000, 10_000)]
    assert query("SELECT started_at <= now(), finished_at >= started_at FROM syncs") == [(True, True)]


def test_pages_from_the_future_count_as_read_now(
    tmp_path: Path, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    """They keep the time between them, and grow old from now on; it is said once that a clock was wrong."""
    file = tmp_path / "pages" / "users" / "log"
    ahead = [IN_2100 + 3600 * page for page in range(3)]
    write(file, {time.time() - 60: b"zero", **dict.fromkeys(ahead, b"page")})
    for _ in range(2):
        log = PageLog(file, 3 * 3600)
        assert [log[page] for page in range(1, len(log) + 1)] == [b"zero", b"page", b"page", b"page"]
        log.keep(len(log))
        log.close()
    times = [head for head, _, _ in map(pages.HEAD.unpack_from, [file.read_bytes()] * 4, range(0, 80, 20))]
    assert [round(after - before) for before, after in pairwise(times[1:])] == [3600, 3600]
    assert times[-1] <= time.time()
    [message] = caplog.messages
    assert message.startswith("users: kept pages are dated ")
    assert message.endswith(" s in the future: a clock was wrong")
    later(2.1)  # and an hour since the last page that counts as growth
    log = PageLog(file, 3 * 3600)
    assert not len(log)
    log.close()


def test_a_reading_that_began_in_the_future_began_before_now(tmp_path: Path) -> None:
    """Also where the clock was corrected during the reading."""
    file = tmp_path / "pages" / "users" / "log"
    write(file, {IN_2100: b"one", IN_2100 + 60: b"two", time.time() - 60: b"three"})
    log = PageLog(file, 3600)
    assert len(log) == 3
    assert log.started_at <= datetime.now(UTC) - timedelta(minutes=1)
    log.close()


def test_a_folder_from_the_future_does_not_stay_on_the_disk(tmp_path: Path, later: Later) -> None:
    """It counts as changed now when it is seen, and goes as late as any other."""
    file = tmp_path / "pages" / "trainings" / "log"
    write(file, {IN_2100: b"one"})
    os.utime(file, (IN_2100, IN_2100))
    for hours, is_there in ((0, True), (0.9, True), (1.1, False)):
        later(hours)
        PageLog(tmp_path / "pages" / "users" / "log", 3600).close()
        assert file.exists() == is_there


@pytest.mark.parametrize("refusal", [status(429, {"Retry-After": "3000"}), status(401), status(400)])
def test_a_refusal_keeps_what_was_read(broken: ContractApi, materialize: Materialize, refusal: Answer) -> None:
    """A limit, or a key that does not work for now, says nothing against the pages that were read."""
    broken.answers["users"].append(refusal)
    assert not materialize("users").success
    broken.pages.clear()
    result = materialize("users")
    assert asked(broken, up_to=90) == [1, 45, 90, 90]
    assert calls_of(result) <= 10 + 4 + configured().read_ahead


def test_a_key_that_no_header_carries_keeps_what_was_read(
    broken: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistypes the key has not to read everything again with the right one."""
    with monkeypatch.context() as mistyped:
        mistyped.setenv("API_KEY", "half\nother-half")
        assert not materialize("users").success
    assert materialize("users").success
    assert asked(broken, up_to=90) == [1, 45, 90, 90]


@pytest.mark.parametrize("answer", [status(404), body(b'{"data": {}}')])
def test_a_last_page_that_is_gone_makes_it_start_over(
    broken: ContractApi, materialize: Materialize, query: Query, answer: Answer
) -> None:
    """Whatever a server says of a page that is no more, the next reading is not held up by it."""
    del broken.rows["users"][1000:]

    def gone(handler: Handler) -> None:
        page = handler.page
        answer(handler) if page > 10 else handler.send(200, broken.render("users", page, 100))

    broken.always["users"] = gone
    assert materialize("users").success
    assert query("SELECT count(*) FROM users") == [(1000,)]


@pytest.mark.usefixtures("each_warehouse")
def test_a_refused_reading_is_not_used(api: ContractApi, materialize: Materialize) -> None:
    """What the API gave and must not be believed is asked for again."""
    api.rows["users"] = [{"id": number, "created_at": "yesterday"} for number in range(1000)]
    assert not materialize("users").success
    api.calls.clear()
    for row in api.rows["users"]:
        row["created_at"] = None
    assert materialize("users").success
    assert api.calls["users"] >= 10


@pytest.mark.usefixtures("each_warehouse")
def test_a_resumed_sync_infers_no_deletions(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Only the second of two whole readings in a row that miss a row says that it is deleted."""
    api.rows["users"] = [{"id": number} for number in range(1000)]
    assert materialize("users").success
    del api.rows["users"][-1]
    for resumed in (False, True, False):
        if resumed:
            api.page = lambda *which: {"data": {}} if which[1] > 5 else api.contract_page(*which)
            assert not materialize("users").success
            api.page = api.contract_page
        assert materialize("users").success
        assert query("SELECT count(*) FROM users WHERE _deleted_at IS NOT NULL") == [(0,)]
    assert materialize("users").success
    assert query("SELECT id FROM users WHERE _deleted_at IS NOT NULL") == [("999",)]
    assert (
        query("SELECT resumed_pages > 0 FROM syncs ORDER BY started_at") == [(False,)] * 2 + [(True,)] + [(False,)] * 2
    )


def test_a_transient_failure_keeps_what_was_read(broken: ContractApi, materialize: Materialize, query: Query) -> None:
    """While the API is down nothing is thrown away; the retry of the resource goes on where it stopped."""
    broken.answers["users"].extend([status(503)] * 8)
    result = materialize("users")
    assert asked(broken, up_to=90) == [*[1] * 9, 45, 90, 90]
    assert calls_of(result) <= 8 + 10 + 4 + configured().read_ahead
    assert query("SELECT count(*) FROM users") == [(10_000,)]


@pytest.mark.parametrize("page", [1, 50, 90])
def test_a_damaged_log_is_read_again(
    broken: ContractApi, materialize: Materialize, query: Query, tmp_path: Path, page: int
) -> None:
    """Whichever page the disk has lost, everything is read from the API in its place."""
    [file] = pages_on_disk(tmp_path)
    content = bytearray(file.read_bytes())
    start = len(content) * (page - 1) // 90
    content[start : start + len(content) // 90] = bytes(len(content) // 90)
    file.write_bytes(content)
    assert materialize("users").success
    assert query("SELECT count(*), count(DISTINCT id), count(DISTINCT email) FROM users") == [(10_000,) * 3]


def test_a_torn_page_is_cut_off(tmp_path: Path) -> None:
    """Whatever the length at which a crash has cut the log, the whole pages before it are there and no other."""
    file = tmp_path / "pages" / "users" / "log"
    bodies = [os.urandom(50), b"{}", b"x" * 1000]
    log = PageLog(file, 60)
    ends = [0]
    for content in bodies:
        log.append(content)
        ends.append(file.stat().st_size)
    log.close()
    whole = file.read_bytes()
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        log = PageLog(file, 60)
        kept = sum(end <= length for end in ends[1:])
        assert [log[page] for page in range(1, len(log) + 1)] == bodies[:kept]
        for content in (b"next", b"last"):
            log.append(content)
        assert [log[kept + 1], log[kept + 2]] == [b"next", b"last"]
        log.close()


@pytest.mark.parametrize("kept", range(4))
def test_pages_behind_the_kept_ones_are_gone(tmp_path: Path, kept: int) -> None:
    """What is added after some pages were dropped follows on the kept ones, also for the next process."""
    file = tmp_path / "pages" / "users" / "log"
    bodies = [b"one", b"two", b"three"]
    log = PageLog(file, 60)
    for content in bodies:
        log.append(content)
    log.keep(kept)
    log.append(b"next")
    after = PageLog(file, 60)
    for each in (log, after):
        assert [each[page] for page in range(1, len(each) + 1)] == [*bodies[:kept], b"next"]
        each.close()
