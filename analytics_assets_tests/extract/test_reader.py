"""Resources are read ahead of their loading: what overlaps, what does not, and the end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError
from filelock import FileLock
from tenacity import Retrying, stop_after_delay, wait_fixed

from analytics_assets.extract import client
from analytics_assets.extract.api import page_log
from analytics_assets.extract.faults import Fault
from analytics_assets.extract.reader import Reader
from analytics_assets.extract.reading import GivenUp, Reading
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import Materialize, configured
from analytics_assets_tests.contract_api import TOKEN, ContractApi, Handler, status
from analytics_assets_tests.extract.reading import batches

TRAININGS, USERS = RESOURCES["trainings"], RESOURCES["users"]
REGISTRATIONS, AWARDS = RESOURCES["registrations"], RESOURCES["awarded_certifications"]


Opened = Callable[[], Reader]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Gives a reader of the settings as they are then, which leaves no thread behind."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Reader(configured())))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "typing"))]


@pytest.fixture
def reader(opened: Opened) -> Reader:
    return opened()


def eventually(seen: Callable[[], bool]) -> None:
    for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.01)):
        with attempt:
            assert seen()


def assert_it_ends_soon(reader: Reader) -> None:
    """Whatever it waits for, another thread can end it."""
    ending = threading.Thread(target=reader.close, daemon=True)
    ending.start()
    ending.join(10)  # and not minutes
    assert not ending.is_alive()


def loaded(reading: Reading) -> int:
    """Rows in all batches of a reading."""
    return sum(batch.num_rows for batch in batches(reading))


def test_the_next_is_read_while_one_is_loaded(api: ContractApi, reader: Reader) -> None:
    """What is begun later has been read when what was begun before it is still being loaded."""
    asked = threading.Event()

    def answer(handler: Handler) -> None:
        asked.set()
        handler.send(200, api.render("users", 1, 100))

    api.always["users"] = answer
    api.rows["users"] = [{"id": 1}]
    users = Sync()
    reader.begin(TRAININGS, Sync())
    reader.begin(USERS, users)
    with reader.read(TRAININGS):
        assert asked.wait(10)
        eventually(lambda: users.rows == 1)
    with reader.read(USERS) as reading:
        assert reading.sync is users
        assert loaded(reading) == 1


def test_what_refers_to_others_is_read_before_them(api: ContractApi, reader: Reader) -> None:
    """A user who comes while registrations are read is asked for after all of them, and so never missing."""
    order: list[str] = []
    tables = (REGISTRATIONS, AWARDS, USERS, TRAININGS)
    for table in tables:
        api.rows[table.name] = [{"id": number} for number in range(1000)]
        api.always[table.name] = partial(_noted, api, order.append)
        reader.begin(table, Sync(known_pages=10))
    for table in tables:
        with reader.read(table) as reading:
            assert loaded(reading) == 1000
    assert sorted(order[:20]) == ["awarded_certifications"] * 10 + ["registrations"] * 10
    assert sorted(order[20:]) == ["trainings"] * 10 + ["users"] * 10


def test_those_that_refer_are_read_at_the_same_time(
    api: ContractApi, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them answers only when all have been asked."""
    monkeypatch.setenv("READ_AHEAD", "3")
    reader = opened()
    referring = [table for table in RESOURCES.values() if table.refers]
    assert [table.name for table in referring] == ["registrations", "awarded_certifications", "paths_users"]
    together = threading.Barrier(len(referring), timeout=10)

    def met(_: str) -> None:
        together.wait()

    for table in referring:
        api.rows[table.name] = [{"id": 1}]
        api.always[table.name] = partial(_noted, api, met)
        reader.begin(table, Sync())
    for table in referring:
        with reader.read(table) as reading:
            assert loaded(reading) == reading.sync.rows == 1
    assert not together.broken


def test_a_run_loads_in_the_order_in_which_it_reads(api: ContractApi, materialize: Materialize) -> None:
    """Where it did not, what has been read would wait for what has not."""
    loaded = [event.step_key for event in materialize(*RESOURCES).get_asset_materialization_events()]
    assert len(loaded) == len(RESOURCES)
    assert not any(RESOURCES[str(name)].refers for name in loaded[3:])


@pytest.mark.parametrize("hanging", ["server", "budget"])
def test_an_end_of_several_is_as_quick(
    api: ContractApi, opened: Opened, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    """None waits at the end for what another has: the requests in flight, or its turn for the budget."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.3")
    monkeypatch.setenv("READ_AHEAD", "2")
    if hanging == "budget":
        monkeypatch.setenv("API_CALLS_BURST", "10")
        monkeypatch.setenv("API_CALLS_PER_HOUR", "10")
    reader = opened()
    asked = threading.Barrier(3, timeout=10)

    def hang(handler: Handler) -> None:
        asked.wait()
        handler.connection.recv(1)

    for table, answer in ((REGISTRATIONS, status(500)), (AWARDS, hang)):
        api.rows[table.name] = [{"id": number} for number in range(2000)]
        api.always[table.name] = answer
    if hanging == "budget":
        del api.always[AWARDS.name]
    reader.begin(REGISTRATIONS, Sync(known_pages=20))
    eventually(lambda: api.calls[REGISTRATIONS.name] >= 2)  # and is about to try again
    reader.begin(AWARDS, Sync(known_pages=20))
    if hanging == "server":
        asked.wait()  # so both that may be in flight hang
    else:
        eventually(lambda: sum(api.calls.values()) == 10)
    time.sleep(1)  # until the first waits behind the second; if it is slower, less is tested
    assert_it_ends_soon(reader)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time limit ends a wait while the test lasts."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    monkeypatch.setattr(client, "CONNECT_SECONDS", 600)


@pytest.mark.usefixtures("patient")
def test_an_end_waits_for_no_answer_that_drips(api: ContractApi, reader: Reader) -> None:
    """A body of which a byte comes now and then, so that it is never silent and never done."""
    dripping = threading.Event()

    def drip(handler: Handler) -> None:
        handler.send(200, b"{", {"Content-Length": "1000000"})
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            dripping.set()
            time.sleep(0.05)

    api.always["users"] = drip
    reader.begin(USERS, Sync())
    assert dripping.wait(10)
    assert_it_ends_soon(reader)


@pytest.mark.usefixtures("patient")
def test_an_end_waits_for_no_handshake(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection, and then never says a word of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("API_BASE_URL", f"https://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("API_KEY", TOKEN)
        server.settimeout(10)
        reader = opened()
        reader.begin(USERS, Sync())
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(1), "it greets"
            assert_it_ends_soon(reader)


@pytest.mark.usefixtures("patient")
def test_an_end_waits_for_no_name_server(api: ContractApi, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of the API's name that never ends."""
    asked, ended = threading.Event(), threading.Event()

    def look_up(*_: Any) -> None:
        asked.set()
        ended.wait()

    monkeypatch.setenv("API_BASE_URL", api.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        reader = opened()
        reader.begin(USERS, Sync())
        assert asked.wait(10)
        assert_it_ends_soon(reader)
    finally:
        ended.set()


def test_an_end_waits_for_no_budget(
    api: ContractApi, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reading whose next call is allowed in an hour."""
    monkeypatch.setenv("API_CALLS_BURST", "1")
    monkeypatch.setenv("API_CALLS_PER_HOUR", "1")
    reader = opened()
    api.rows["users"] = [{"id": number} for number in range(200)]
    with caplog.at_level("INFO"):
        reader.begin(USERS, Sync())
        eventually(lambda: "for the budget of 1 calls per hour" in caplog.text)
        assert_it_ends_soon(reader)
    assert api.calls["users"] == 1


def test_an_end_waits_for_no_other_process_that_has_the_budget(
    api: ContractApi, reader: Reader, tmp_path: Path
) -> None:
    """A reading that may not even ask for its call, because another process is asking."""
    (tmp_path / "dlt").mkdir()
    with FileLock(tmp_path / "dlt" / "calls.json.lock"):
        reader.begin(USERS, Sync())
        eventually(lambda: (tmp_path / "dlt" / "pages" / "users").exists())
        assert_it_ends_soon(reader)
    assert not api.calls


def test_an_end_waits_for_no_other_try(api: ContractApi, reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    """A server that asks to come back after 200 seconds."""
    api.always["users"] = status(503, {"Retry-After": "200"})
    with caplog.at_level("INFO"):
        reader.begin(USERS, Sync())
        eventually(lambda: "trying again in 200.0 s" in caplog.text)
        assert_it_ends_soon(reader)
    assert api.calls["users"] == 1


def test_resources_share_the_pages_in_flight(api: ContractApi, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two resources that are read at the same time send no more requests at once than `READ_AHEAD` says."""
    monkeypatch.setenv("READ_AHEAD", "2")
    reader = opened()
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
        reader.begin(table, Sync(known_pages=10))
    for table in (REGISTRATIONS, AWARDS):
        with reader.read(table) as reading:
            assert loaded(reading) == 1000
            assert reading.sync.pages == 10
    assert most == [2]


def _noted(api: ContractApi, note: Callable[[str], None], handler: Handler) -> None:
    """Answer, and tell `note` which resource was asked for."""
    resource = handler.path.partition("?")[0].rpartition("/")[2]
    note(resource)
    handler.send(200, api.render(resource, handler.page, 100))


def test_what_comes_before_is_read_in_its_turn(reader: Reader) -> None:
    """What failed before it could be begun is not begun ahead of those that are next, nor twice."""
    first, *rest = RESOURCES.values()
    assert reader.due(rest[0], [first, *rest]) == rest
    assert reader.due(first, [first, *rest]) == [first]


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
    api: ContractApi, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who gives up does not wait: what hangs is ended, what is queued never begins, and pages that came are kept."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    hanging = threading.Event()

    def answer(handler: Handler) -> None:
        page = handler.page
        if page < 10:
            handler.send(200, api.render("registrations", page, 100))
        else:
            hanging.set()
            handler.connection.recv(1)

    api.rows["registrations"] = [{"id": number} for number in range(2000)]
    api.always["registrations"] = answer
    for table in (AWARDS, REGISTRATIONS, USERS):
        reader.begin(table, Sync())
    assert hanging.wait(10)
    reader.close()
    assert not api.calls["users"]
    for table, pages in ((AWARDS, range(2)), (REGISTRATIONS, range(1, 10))):
        with closing(page_log(configured(), table, 1)) as log:
            assert len(log) in pages


def test_an_end_waits_for_no_other_run(reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A resource that another run syncs keeps nobody from giving up."""
    (tmp_path / "dlt").mkdir()
    with FileLock(tmp_path / "dlt" / "users.lock"), caplog.at_level("INFO"):
        reader.begin(USERS, Sync())
        eventually(lambda: "another run syncs users; waiting for it" in caplog.text)
        assert_it_ends_soon(reader)


def test_who_waits_for_rows_when_it_ends_is_told(api: ContractApi, reader: Reader) -> None:
    """The load of a reading that is ended from another thread fails at once, with the reason."""
    asked = threading.Event()

    def hang(handler: Handler) -> None:
        asked.set()
        handler.connection.recv(1)

    def end() -> None:
        assert asked.wait(10)
        reader.close()

    api.always["users"] = hang
    reader.begin(USERS, Sync())
    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(ResourceExtractionError) as raised, reader.read(USERS) as reading:
        loaded(reading)
    ending.join(10)
    assert not ending.is_alive()
    assert isinstance(raised.value.__cause__, GivenUp)


def test_what_ended_a_reading_is_raised_where_it_is_wanted(api: ContractApi, reader: Reader) -> None:
    """An error of a resource that was read ahead says nothing before its turn, and nothing about the others."""
    api.always["users"] = status(404)
    reader.begin(USERS, Sync())
    reader.begin(TRAININGS, Sync())
    with reader.read(TRAININGS) as reading:
        assert loaded(reading) == 0
        assert reading.sync.pages == 1
    with pytest.raises(ResourceExtractionError) as raised, reader.read(USERS) as reading:
        loaded(reading)
    assert isinstance(raised.value.__cause__, Fault)
    assert raised.value.__cause__.status == 404
