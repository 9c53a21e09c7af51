"""The pages of one resource: their order, number of calls, those that are ahead, faults, and the end."""

import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError

from analytics_assets.extract import reading as reading_module
from analytics_assets.extract.batches import Typed, typed
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.contract_api import ContractApi, Handler, status
from analytics_assets_tests.extract.reading import batches, reading


def read(depth: int, monkeypatch: pytest.MonkeyPatch, known_pages: int = 0) -> tuple[list[str], list[int], Sync]:
    """The ids and page numbers a sync would load, in order, and the sync; nothing is left running."""
    monkeypatch.setenv("READ_AHEAD", str(depth))
    sync = Sync(known_pages=known_pages)
    try:
        with reading(sync) as begun:
            tables = list(batches(begun))
    finally:
        assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "typing"))]
    ids = [key for table in tables for key in table["id"].to_pylist()]
    return ids, [page for table in tables for page in table["_page"].to_pylist()], sync


@pytest.mark.parametrize("depth", [1, 2, 8, 32])
@pytest.mark.parametrize("count", [0, 1, 100, 101, 3000, 12_345])
def test_pages_come_in_order(api: ContractApi, monkeypatch: pytest.MonkeyPatch, depth: int, count: int) -> None:
    """Every row arrives once, in order, with the page it stood on, at any depth."""
    api.rows["users"] = [{"id": number} for number in range(count)]
    ids, pages, sync = read(depth, monkeypatch)
    assert ids == [str(number) for number in range(count)]
    assert pages == [number // 100 + 1 for number in range(count)]
    assert (sync.rows, sync.pages) == (count, max(1, -(-count // 100)))
    assert 0 <= sync.calls - api.calls["users"] <= depth, "what is given up at the end may not have been sent any more"


@pytest.mark.parametrize("depth", [1, 8, 32])
def test_one_page_costs_one_call(api: ContractApi, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    """It starts slowly: a resource of one page is read with one call."""
    api.rows["users"] = [{"id": 1}]
    read(depth, monkeypatch)
    assert api.calls["users"] == 1


def test_at_most_depth_pages_are_asked_for_in_vain(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last page at most as many are requested as may be in flight."""
    api.rows["users"] = [{"id": number} for number in range(10_000)]
    read(8, monkeypatch)
    assert 100 <= api.calls["users"] <= 108


@pytest.mark.parametrize("pages", [1, 7, 40])
def test_a_repeated_sync_stops_where_the_last_one_did(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    """With the same data it costs as many calls as pages; with one page more, one call more."""
    api.rows["users"] = [{"id": number} for number in range(pages * 100)]
    read(8, monkeypatch, known_pages=pages)
    assert api.calls["users"] == pages
    api.calls.clear()
    api.rows["users"].append({"id": "new"})
    assert read(8, monkeypatch, known_pages=pages)[0][-1] == "new"
    assert api.calls["users"] == pages + 1


def test_a_repeated_sync_starts_with_all_that_may_be_in_flight(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are known are requested so many at a time from the first on."""
    api.rows["users"] = [{"id": number} for number in range(1600)]
    others, contract_page = threading.Barrier(8), api.contract_page

    def together(resource: str, page: int, size: int) -> Any:
        others.wait(20)
        return contract_page(resource, page, size)

    api.page = together
    assert len(read(8, monkeypatch, known_pages=16)[0]) == 1600
    assert api.calls["users"] == 16


def test_what_is_read_waits_for_nobody_to_take_it(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first batch is taken all pages have been read, however few may be in flight; they wait on the disk."""
    monkeypatch.setenv("READ_AHEAD", "2")
    api.rows["users"] = [{"id": number} for number in range(10_000)]
    with reading(Sync(known_pages=100)) as begun:
        assert begun.has_ended.wait(20)
        assert api.calls["users"] == len(begun.log) == 100
        assert sum(batch.num_rows for batch in batches(begun)) == 10_000
    assert api.calls["users"] == 100


def test_one_batch_is_typed_ahead(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is loaded the next is typed, and no other: what has been read waits on the disk."""
    began = SimpleQueue[int]()

    def noted(*given: Any) -> Typed:
        began.put(given[3])
        return typed(*given)

    monkeypatch.setattr(reading_module, "typed", noted)
    monkeypatch.setattr(reading_module, "BATCH_ROWS", 100)
    api.rows["users"] = [{"id": number} for number in range(400)]
    with reading() as begun:
        assert begun.has_ended.wait(20)
        assert len(begun.log) == 4
        for page in range(1, 5):
            assert began.get(timeout=20) == page
            assert began.empty()
            assert begun.batch()[1] is (page < 4)


def test_an_error_in_typing_comes_at_once(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for pages that are still to be read."""
    hanging = threading.Event()

    def failing(*_: Any) -> Typed:
        raise MemoryError

    def answer(handler: Handler) -> None:
        if handler.page == 3:
            hanging.wait(20)
        handler.send(200, api.render("users", handler.page, 100))

    monkeypatch.setattr(reading_module, "typed", failing)
    monkeypatch.setattr(reading_module, "BATCH_ROWS", 100)
    api.rows["users"] = [{"id": number} for number in range(400)]
    api.always["users"] = answer
    with reading() as begun:
        with pytest.raises(MemoryError):
            begun.batch()
        assert not begun.has_ended.is_set()
        hanging.set()


def test_pages_ahead_of_their_turn_are_never_more_than_may_be_in_flight(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one page keeps the others waiting in memory, none is requested beyond `READ_AHEAD`, itself counted."""
    api.rows["users"] = [{"id": number} for number in range(4000)]
    asked: set[int] = set()
    answered: set[int] = set()
    too_far: list[int] = []
    changed = threading.Condition()

    def slow_now_and_then(handler: Handler) -> None:
        page = handler.page
        with changed:
            asked.add(page)
            too_far.extend([page] * (not answered.issuperset(range(1, page - 3))))
            changed.notify_all()
            if page % 10 == 1:  # until all that may be are waiting behind it
                assert changed.wait_for(lambda: answered.issuperset(range(page + 1, min(page + 3, 40) + 1)), 20)
        if page % 10 == 1:
            time.sleep(0.05)  # for another to come
        with changed:
            answered.add(page)
            changed.notify_all()
        handler.send(200, api.render("users", page, 100))

    api.always["users"] = slow_now_and_then
    ids, _, _ = read(4, monkeypatch, known_pages=40)
    assert ids == [str(number) for number in range(4000)]
    assert asked == answered == set(range(1, 41))
    assert not too_far


def test_behind_a_page_that_says_it_is_the_last_nothing_is_requested(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resource that has shrunk costs what was in flight, and not all that it had."""
    api.rows["users"] = [{"id": number} for number in range(500)]
    _, _, sync = read(2, monkeypatch, known_pages=100)
    assert sync.pages == 5
    assert 5 <= api.calls["users"] <= 6


def test_a_page_ahead_that_says_it_is_the_last_ends_the_requests_behind_it(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is heard before its turn: what waits behind it for another try is given up, and what is before it is read."""
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.3")
    api.rows["users"] = [{"id": number} for number in range(300)]
    last, asked_behind = threading.Event(), [0]

    def answer(handler: Handler) -> None:
        page = handler.page
        if page > 3:
            asked_behind[0] += 1
            assert last.wait(20)
            handler.send(503, b"")
            return
        if page == 1:
            assert last.wait(20)
            time.sleep(1)  # for others to be tried again
        handler.send(200, api.render("users", page, 100))
        if page == 3:
            handler.wfile.flush()
            last.set()

    api.always["users"] = answer
    ids, _, _ = read(8, monkeypatch, known_pages=30)
    assert len(ids) == 300
    assert asked_behind[0] <= 5


def test_a_resource_that_has_shrunk_ends_early(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages known from last time that are gone are no rows."""
    api.rows["users"] = [{"id": number} for number in range(150)]
    ids, _, sync = read(8, monkeypatch, known_pages=30)
    assert len(ids) == 150
    assert sync.pages == 2


def test_a_failed_page_ahead_is_tried_again(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault now and then, in pages that are ahead as in others, loses nothing."""
    api.rows["users"] = [{"id": number} for number in range(2000)]
    faulty = status(503)
    contract_page = api.contract_page

    def now_and_then(resource: str, page: int, size: int) -> Any:
        if api.calls["users"] % 5 == 0:
            api.answers["users"].append(faulty)
        return contract_page(resource, page, size)

    api.page = now_and_then
    ids, _, sync = read(8, monkeypatch)
    assert ids == [str(number) for number in range(2000)]
    assert sync.calls > 20


def test_a_page_that_stays_broken_raises_when_its_turn_comes(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the broken page, the pages before it were asked for, and nothing goes on behind it."""
    api.rows["users"] = [{"id": number} for number in range(5000)]
    contract_page, asked = api.contract_page, set()

    def broken(resource: str, page: int, size: int) -> Any:
        asked.add(page)
        return {"data": {}} if page == 9 else contract_page(resource, page, size)

    api.page = broken
    with pytest.raises(ResourceExtractionError) as raised:
        read(8, monkeypatch)
    assert "page=9" in str(raised.value.__cause__)
    assert asked >= set(range(1, 10))
    assert api.calls["users"] <= 9 + 8


def test_what_lies_behind_the_end_may_be_broken(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers 404 behind its last page is read to the end."""
    api.rows["users"] = [{"id": number} for number in range(1000)]

    def answer(handler: Handler) -> None:
        page = handler.page
        if page > 10:
            handler.send(404, b"no such page")
        else:
            handler.send(200, api.render("users", page, 100))

    api.always["users"] = answer
    ids, _, _ = read(8, monkeypatch)
    assert len(ids) == 1000
