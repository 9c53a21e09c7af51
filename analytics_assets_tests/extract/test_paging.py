"""From one answer to the next page, and what is no page."""

import json
from typing import Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError

from analytics_assets.extract.api import has_row
from analytics_assets.extract.faults import Fault, UnexpectedAnswer
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import configured
from analytics_assets_tests.contract_api import Answer, ContractApi, Handler, body, no_content, status
from analytics_assets_tests.extract.reading import USERS, read


@pytest.fixture(autouse=True)
def one_page_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one page in flight no page is asked for that `has_more` has not promised: calls can be counted."""
    monkeypatch.setenv("READ_AHEAD", "1")


def refused() -> str:
    """Reads, and gives the message of the refusal."""
    with pytest.raises(ResourceExtractionError) as raised:
        read()
    assert isinstance(raised.value.__cause__, UnexpectedAnswer)
    return str(raised.value.__cause__)


def with_more(api: ContractApi, more: Any) -> None:
    """Makes the server answer `has_more` as `more(true or false)`; the field is left out where that is `...`."""

    def page(resource: str, page: int, size: int) -> Any:
        answer = api.contract_page(resource, page, size)
        value = more(answer.pop("has_more"))
        return answer if value is ... else {**answer, "has_more": value}

    api.page = page


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_without_has_more_an_empty_page_ends_the_reading(api: ContractApi, count: int) -> None:
    """Where `has_more` is missing or null, reading goes on until an empty page."""
    api.rows["users"] = [{"id": number} for number in range(count)]
    for nothing in (..., None):
        api.calls.clear()
        with_more(api, lambda _, nothing=nothing: nothing)
        assert read() == [str(number) for number in range(count)]
        assert api.calls["users"] == -(-count // 100) + 1


def test_has_more_as_text(api: ContractApi) -> None:
    """`"true"` and `"false"` are understood."""
    api.rows["users"] = [{"id": number} for number in range(250)]
    with_more(api, lambda more: str(more).lower())
    assert len(read()) == 250
    assert api.calls["users"] == 3


def with_holes(api: ContractApi, *holes: int) -> None:
    """Makes the server leave these pages empty, with what they would hold on those behind them."""

    def page(resource: str, page: int, size: int) -> Any:
        if page in holes:
            return {"has_more": True, "data": {resource: []}}
        return api.contract_page(resource, page - sum(hole < page for hole in holes), size)

    api.page = page


@pytest.mark.parametrize("ahead", ["1", "2", "8"])
@pytest.mark.parametrize("holes", [(1,), (2,), (3,), (2, 3, 4), (1, 3)], ids=str)
def test_a_hole_loses_nothing_behind_it(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, holes: tuple[int, ...], ahead: str
) -> None:
    """An empty page that promises more is not the end, be it the first, in the middle or one of several in a row."""
    monkeypatch.setenv("READ_AHEAD", ahead)
    api.rows["users"] = [{"id": number} for number in range(250)]
    with_holes(api, *holes)
    sync = Sync()
    assert read(sync) == [str(number) for number in range(250)]
    assert (sync.rows, sync.pages) == (250, 3 + len(holes))
    if ahead == "1":
        assert api.calls["users"] == 3 + len(holes)


@pytest.mark.parametrize("ahead", ["1", "8"])
@pytest.mark.parametrize(
    "answer",
    [
        no_content,
        body(b'{"data": {"users": []}}'),
        body(b'{"data": {"users": []}, "has_more": null}'),
    ],
    ids=["204", "without", "null"],
)
def test_an_empty_page_that_says_nothing_breaks_no_promise(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, answer: Answer, ahead: str
) -> None:
    """Where the page before it promised another, what is behind it is asked for."""
    monkeypatch.setenv("READ_AHEAD", ahead)
    api.rows["users"] = [{"id": number} for number in range(500)]

    def page_3(handler: Handler) -> None:
        page = handler.page
        answer(handler) if page == 3 else handler.send(200, api.render("users", page, 100))

    api.always["users"] = page_3
    assert len(read()) == 400


def test_a_hole_without_end(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every page promises another, the reading goes on to `MOST_PAGES`, and is an error there."""
    monkeypatch.setenv("MOST_PAGES", "30")
    api.rows["users"] = [{"id": number} for number in range(250)]
    with_more(api, lambda _: True)
    assert refused() == f"{api.url}/v1/users?per_page=100&page=30 promises another page, more than MOST_PAGES"
    assert api.calls["users"] == 30


def test_the_last_page_may_be_empty(api: ContractApi) -> None:
    """An empty page that says that there is no more is the end, as any other that says so."""
    api.rows["users"] = [{"id": number} for number in range(200)]
    contract, empty = api.contract_page, {"has_more": False, "data": {"users": []}}
    api.page = lambda resource, page, size: {**contract(resource, page, size), "has_more": True} if page < 3 else empty
    assert len(read()) == 200
    assert api.calls["users"] == 3


@pytest.mark.parametrize("count", [0, 100, 250])
def test_no_content_ends_the_reading(api: ContractApi, count: int) -> None:
    """HTTP 204 is an empty page that says nothing about more."""
    api.rows["users"] = [{"id": number} for number in range(count)]
    pages = [body(api.render("users", page, 100).replace(b"false", b"true")) for page in range(1, -(-count // 100) + 1)]
    api.answers["users"].extend([*pages, no_content, no_content])
    assert read() == [str(number) for number in range(count)]
    assert api.calls["users"] == len(pages) + 1 + (count > 0), "once more behind a page that promised another"


def test_has_more_that_means_nothing(api: ContractApi) -> None:
    """A `has_more` that is neither true nor false is an error: reading on and stopping would both be a guess."""
    with_more(api, lambda _: "perhaps")
    api.rows["users"] = [{"id": 1}]
    assert "'has_more' is neither true nor false" in refused()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "secret",
        [{"id": "secret"}],
        {},
        {"data": None},
        {"data": ["secret"]},
        {"data": {}},
        {"data": {"users": None}},
        {"data": {"users": {"id": "secret"}}},
        {"data": {"people": [{"id": "secret"}]}},
        {"data": {"users": ["secret"]}},
    ],
    ids=json.dumps,
)
def test_an_answer_without_the_rows_is_refused(api: ContractApi, answer: Any) -> None:
    """Anything but a list of objects at `data.users` is an error that names URL and status, and shows no value."""
    api.answers["users"].append(body(json.dumps(answer).encode()))
    message = refused()
    assert message.startswith(f"HTTP 200 from {api.url}/v1/users?per_page=100&page=1: ")
    assert "'data.users'" in message
    assert "secret" not in message
    assert api.calls["users"] == 1


@pytest.mark.parametrize("has_more", [True, ...])
def test_a_server_that_ignores_the_page_number_is_noticed(api: ContractApi, has_more: Any) -> None:
    """A page that repeats the one before it is an error, not an endless loop."""
    api.rows["users"] = [{"id": number} for number in range(250)]
    api.page = lambda resource, page, size: {
        **({} if has_more is ... else {"has_more": has_more}),
        "data": {resource: api.rows[resource][:size]},
    }
    assert "repeats the page before it" in refused()
    assert api.calls["users"] == 2


def test_rows_without_ids_are_told_apart_by_what_is_in_them(api: ContractApi) -> None:
    """Two pages of such rows repeat each other only if all fields do."""
    api.rows["users"] = [{"id": None, "email": f"{number}@example.org"} for number in range(200)]
    sync = Sync(rejected_share=1)
    assert read(sync) == []
    assert (sync.pages, len(sync.rejected)) == (2, 200)
    api.rows["users"] = [{"id": None}] * 200
    assert "repeats the page before it" in refused()


def test_pages_and_calls_are_counted(api: ContractApi) -> None:
    """A sync knows the rows, pages and calls it took, failed tries among the calls."""
    api.rows["users"] = [{"id": number} for number in range(250)]
    api.answers["users"].append(body(b"{"))
    sync = Sync()
    read(sync)
    assert (sync.rows, sync.pages, sync.calls) == (250, 3, 4)


def test_growth_costs_one_call(api: ContractApi) -> None:
    """Whether there is a row beyond the known ones is one call, also when it fails."""
    api.rows["users"] = [{"id": 1}, {"id": 2}]
    assert has_row(configured(), USERS, 2)
    assert not has_row(configured(), USERS, 3)
    assert api.calls["users"] == 2
    api.always["users"] = status(503)
    with pytest.raises(Fault, match=r"^HTTP 503 from"):
        has_row(configured(), USERS, 3)
    assert api.calls["users"] == 3
