"""Resources are read ahead of their loading: what overlaps, what does not, and the end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import requests
from dlt.pipeline.exceptions import PipelineStepFailed
from filelock import FileLock
from tenacity import Retrying, stop_after_delay, wait_fixed

from analytics_assets.readings import Readings
from analytics_assets.schema import RESOURCES
from analytics_assets.source import page_log
from analytics_assets.sync import Sync
from analytics_assets_tests.conftest import Materialize
from analytics_assets_tests.contract_api import ContractApi, Handler, status

TRAININGS, USERS = RESOURCES["trainings"], RESOURCES["users"]
REGISTRATIONS, AWARDS = RESOURCES["registrations"], RESOURCES["awarded_certifications"]


@pytest.fixture
def readings() -> Iterator[Readings]:
    """Readings that leave no thread behind."""
    with closing(Readings()) as readings:
        yield readings
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reading", "read-ahead"))]


def test_the_next_is_read_while_one_is_loaded(api: ContractApi, readings: Readings) -> None:
    """What is begun later has been read when what was begun before it is still being loaded."""
    asked = threading.Event()

    def answer(handler: Handler) -> None:
        asked.set()
        handler.send(200, api.render("users", 1, 100))

    api.always["users"] = answer
    api.rows["users"] = [{"id": 1}]
    users = Sync()
    readings.begin(TRAININGS, Sync())
    readings.begin(USERS, users)
    with readings.read(TRAININGS):
        assert asked.wait(10)
    with readings.read(USERS) as (pipeline, sync):
        assert sync is users
        assert sync.rows == 1
        assert pipeline.list_extracted_load_packages()


def test_what_refers_to_others_is_read_before_them(api: ContractApi, readings: Readings) -> None:
    """A user who comes while registrations are read is asked for after all of them, and so never missing."""
    order: list[str] = []
    for table in (REGISTRATIONS, AWARDS, USERS, TRAININGS):
        api.rows[table.name] = [{"id": number} for number in range(1000)]
        api.always[table.name] = partial(_noted, api, order.append)
        readings.begin(table, Sync(known_pages=10))
    with readings.read(REGISTRATIONS), readings.read(AWARDS), readings.read(USERS), readings.read(TRAININGS):
        assert sorted(order[:20]) == ["awarded_certifications"] * 10 + ["registrations"] * 10
        assert sorted(order[20:]) == ["trainings"] * 10 + ["users"] * 10


def test_those_that_refer_are_read_at_the_same_time(
    api: ContractApi, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them answers only when all have been asked."""
    monkeypatch.setenv("READ_AHEAD", "3")
    referring = [table for table in RESOURCES.values() if table.refers]
    assert [table.name for table in referring] == ["registrations", "awarded_certifications", "paths_users"]
    together = threading.Barrier(len(referring), timeout=10)

    def met(_: str) -> None:
        together.wait()

    for table in referring:
        api.rows[table.name] = [{"id": 1}]
        api.always[table.name] = partial(_noted, api, met)
        readings.begin(table, Sync())
    for table in referring:
        with readings.read(table) as (_, sync):
            assert sync.rows == 1
    assert not together.broken


def test_a_run_loads_in_the_order_in_which_it_reads(api: ContractApi, materialize: Materialize) -> None:
    """Where it did not, what has been read would wait for what has not."""
    loaded = [event.step_key for event in materialize(*RESOURCES).get_asset_materialization_events()]
    assert len(loaded) == len(RESOURCES)
    assert not any(RESOURCES[str(name)].refers for name in loaded[3:])


@pytest.mark.parametrize("hanging", ["server", "budget"])
def test_an_end_of_several_is_as_quick(
    api: ContractApi, readings: Readings, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    """None waits at the end for what another has: the requests in flight, or its turn for the budget."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.3")
    monkeypatch.setenv("READ_AHEAD", "2")
    if hanging == "budget":
        monkeypatch.setenv("API_CALLS_BURST", "10")
        monkeypatch.setenv("API_CALLS_PER_HOUR", "10")
    asked = threading.Barrier(3, timeout=10)

    def hang(handler: Handler) -> None:
        asked.wait()
        handler.connection.recv(1)

    def eventually(seen: Callable[[], bool]) -> None:
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.01)):
            with attempt:
                assert seen()

    for table, answer in ((REGISTRATIONS, status(500)), (AWARDS, hang)):
        api.rows[table.name] = [{"id": number} for number in range(2000)]
        api.always[table.name] = answer
    if hanging == "budget":
        del api.always[AWARDS.name]
    readings.begin(REGISTRATIONS, Sync(known_pages=20))
    eventually(lambda: api.calls[REGISTRATIONS.name] >= 2)  # and is about to try again
    readings.begin(AWARDS, Sync(known_pages=20))
    if hanging == "server":
        asked.wait()  # so both that may be in flight hang
    else:
        eventually(lambda: sum(api.calls.values()) == 10)
    time.sleep(1)  # until the first waits behind the second; if it is slower, less is tested
    ending = threading.Thread(target=readings.close)
    ending.start()
    ending.join(10)  # and not minutes
    assert not ending.is_alive()


def test_resources_share_the_pages_in_flight(
    api: ContractApi, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two resources that are read at the same time send no more requests at once than `READ_AHEAD` says."""
    monkeypatch.setenv("READ_AHEAD", "2")
    under_way, most, counting, two = [0], [0], threading.Lock(), threading.Barrier(2, timeout=10)

    def note(_: str) -> None:
        with counting:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        two.wait()  # there are always two
        time.sleep(0.05)  # for a third to come
        with counting:
            under_way[0] -= 1

    for table in (REGISTRATIONS, AWARDS):
        api.rows[table.name] = [{"id": number} for number in range(1000)]
        api.always[table.name] = partial(_noted, api, note)
        readings.begin(table, Sync(known_pages=10))
    with readings.read(REGISTRATIONS) as (_, one), readings.read(AWARDS) as (_, other):
        assert (one.pages, other.pages) == (10, 10)
    assert most == [2]


def _noted(api: ContractApi, note: Callable[[str], None], handler: Handler) -> None:
    """Answer, and tell `note` which resource was asked for."""
    resource = handler.path.partition("?")[0].rpartition("/")[2]
    note(resource)
    handler.send(200, api.render(resource, int(handler.path.rpartition("=")[2]), 100))


def test_what_comes_before_is_read_in_its_turn(readings: Readings) -> None:
    """What failed before it could be begun is not begun ahead of those that are next, nor twice."""
    first, *rest = RESOURCES.values()
    assert readings.due(rest[0], [first, *rest]) == rest
    assert readings.due(first, [first, *rest]) == [first]


def test_a_run_reads_what_it_loads(api: ContractApi, materialize: Materialize) -> None:
    """A run of some resources asks for these once each, and for no other."""
    assert materialize("users", "certifications").success
    assert api.calls == {"users": 1, "certifications": 1}


def test_a_reading_that_fails_is_tried_again_alone(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been read ahead is not read again because another has to be."""
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "1")
    api.answers["certifications"].append(status(503))
    assert materialize(*RESOURCES).success
    assert api.calls == dict.fromkeys(RESOURCES, 1) | {"certifications": 2}


def test_an_end_leaves_nothing_running(
    api: ContractApi, readings: Readings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who gives up does not wait: what hangs is ended, what is queued never begins, and pages that came are kept."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    hanging = threading.Event()

    def answer(handler: Handler) -> None:
        page = int(handler.path.rpartition("=")[2])
        if page < 10:
            handler.send(200, api.render("registrations", page, 100))
        else:
            hanging.set()
            handler.connection.recv(1)

    api.rows["registrations"] = [{"id": number} for number in range(2000)]
    api.always["registrations"] = answer
    for table in (AWARDS, REGISTRATIONS, USERS):
        readings.begin(table, Sync())
    assert hanging.wait(10)
    readings.close()
    assert not api.calls["users"]
    assert not list(tmp_path.rglob("*.parquet")), "nobody knows when these are read again"
    for table, pages in ((AWARDS, range(2)), (REGISTRATIONS, range(1, 10))):
        with closing(page_log(table)) as log:
            assert len(log) in pages


def test_an_end_waits_for_no_other_run(readings: Readings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A resource that another run syncs keeps nobody from giving up."""
    (tmp_path / "dlt").mkdir()
    with FileLock(tmp_path / "dlt" / "users.lock"), caplog.at_level("INFO"):
        readings.begin(USERS, Sync())
        for wait in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.01)):
            with wait:
                assert "another run syncs users; waiting for it" in caplog.text
        readings.close()


def test_what_ended_a_reading_is_raised_where_it_is_wanted(api: ContractApi, readings: Readings) -> None:
    """An error of a resource that was read ahead says nothing before its turn, and nothing about the others."""
    api.always["users"] = status(404)
    readings.begin(USERS, Sync())
    readings.begin(TRAININGS, Sync())
    with readings.read(TRAININGS) as (_, sync):
        assert sync.pages == 1
    with pytest.raises(PipelineStepFailed) as raised, readings.read(USERS):
        pass
    assert isinstance(raised.value.__cause__ and raised.value.__cause__.__cause__, requests.HTTPError)
