"""Pages requested before they are needed: order, number of calls, faults, and the end."""

import threading
import time
from typing import Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError

from analytics_assets import client
from analytics_assets.paging import Guard
from analytics_assets.readahead import ReadAhead
from analytics_assets.schema import RESOURCES
from analytics_assets.source import source
from analytics_assets.sync import Sync
from analytics_assets_tests.contract_api import ContractApi, Handler, status

USERS = RESOURCES["users"]


def read(depth: int, monkeypatch: pytest.MonkeyPatch, known_pages: int = 0) -> tuple[list[str], list[int], Sync]:
    """The ids and page numbers a sync would load, in order, and the sync; nothing is left running."""
    monkeypatch.setenv("READ_AHEAD", str(depth))
    sync = Sync(known_pages=known_pages)
    try:
        batches = list(source(USERS, sync))
    finally:
        sync.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    ids = [key for batch in batches for key in batch["id"].to_pylist()]
    return ids, [page for batch in batches for page in batch["_page"].to_pylist()], sync


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
    """With the same data it costs as many calls as pages; with one page more, two calls more at the most."""
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
    others, page_of = threading.Barrier(8), api.contract_page

    def together(resource: str, page: int, size: int) -> Any:
        others.wait(20)
        return page_of(resource, page, size)

    api.page = together
    assert len(read(8, monkeypatch, known_pages=16)[0]) == 1600
    assert api.calls["users"] == 16


def test_while_an_answer_is_used_another_is_read(api: ContractApi) -> None:
    """One answer's pages are requested ahead, however few are in flight, and no more of them than that."""
    api.rows["users"] = [{"id": number} for number in range(10_000)]
    pages = ReadAhead(Guard(("data", "users")), 2, known_pages=100)
    with client.session(pages) as session:
        answer = session.get(f"{api.url}/v1/users", params={"per_page": 100, "page": 1}).json()
        for _ in range(2000):
            if api.calls["users"] == 50:
                break
            time.sleep(0.01)
    assert len(answer["sizes"]) == 25
    assert api.calls["users"] == 50


def test_behind_a_page_that_says_it_is_the_last_nothing_is_requested(api: ContractApi) -> None:
    """Be it ahead of what is used: a resource that has shrunk costs what was in flight, not all that waited."""
    api.rows["users"] = [{"id": number} for number in range(500)]
    pages = ReadAhead(Guard(("data", "users")), 2, known_pages=100)
    with client.session(pages) as session:
        answer = session.get(f"{api.url}/v1/users", params={"per_page": 100, "page": 1}).json()
    assert len(answer["sizes"]) == 5
    assert 5 <= api.calls["users"] <= 6


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
    page_of = api.contract_page

    def now_and_then(resource: str, page: int, size: int) -> Any:
        if api.calls["users"] % 5 == 0:
            api.answers["users"].append(faulty)
        return page_of(resource, page, size)

    api.page = now_and_then
    ids, _, sync = read(8, monkeypatch)
    assert ids == [str(number) for number in range(2000)]
    assert sync.calls > 20


def test_a_page_that_stays_broken_raises_when_its_turn_comes(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the broken page, the pages before it were asked for, and nothing goes on behind it."""
    api.rows["users"] = [{"id": number} for number in range(5000)]
    page_of = api.contract_page

    def broken(resource: str, page: int, size: int) -> Any:
        return {"data": {}} if page == 9 else page_of(resource, page, size)

    api.page = broken
    with pytest.raises(ResourceExtractionError) as raised:
        read(8, monkeypatch)
    assert "page=9" in str(raised.value.__cause__)
    assert api.calls["users"] <= 9 + 25


def test_what_lies_behind_the_end_may_be_broken(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers 404 behind its last page is read to the end."""
    api.rows["users"] = [{"id": number} for number in range(1000)]

    def answer(handler: Handler) -> None:
        page = int(handler.path.split("page=")[-1])
        if page > 10:
            handler.send(404, b"no such page")
        else:
            handler.send(200, api.render("users", page, 100))

    api.always["users"] = answer
    ids, _, _ = read(8, monkeypatch)
    assert len(ids) == 1000
