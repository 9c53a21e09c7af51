"""From one answer to the next page, and what is no page."""

import json
from typing import Any

import pytest
import requests
from dlt.extract.exceptions import ResourceExtractionError

from analytics_assets.paging import UnexpectedResponse
from analytics_assets.schema import RESOURCES
from analytics_assets.source import has_row, source
from analytics_assets.sync import Sync
from analytics_assets_tests.contract_api import ContractApi, body, status

USERS = RESOURCES["users"]


@pytest.fixture(autouse=True)
def one_page_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one page in flight no page is asked for that `has_more` has not promised: calls can be counted."""
    monkeypatch.setenv("READ_AHEAD", "1")


def read(sync: Sync | None = None) -> list[str]:
    """The ids that a sync of `users` would load, in order."""
    sync = sync or Sync()
    try:
        return [key for batch in source(USERS, sync) for key in batch["id"].to_pylist()]
    finally:
        sync.close()


def refused(api: ContractApi) -> str:
    """Reads, and gives the message of the refusal."""
    with pytest.raises(ResourceExtractionError) as raised:
        read()
    assert isinstance(raised.value.__cause__, UnexpectedResponse)
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


def test_has_more_for_ever(api: ContractApi) -> None:
    """An empty page ends the reading even if the server says that there is more."""
    api.rows["users"] = [{"id": number} for number in range(250)]
    with_more(api, lambda _: True)
    assert len(read()) == 250
    assert api.calls["users"] == 4


def test_has_more_that_means_nothing(api: ContractApi) -> None:
    """A `has_more` that is neither true nor false is an error: reading on and stopping would both be a guess."""
    with_more(api, lambda _: "perhaps")
    api.rows["users"] = [{"id": 1}]
    assert "'has_more' is neither true nor false" in refused(api)


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
    message = refused(api)
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
    assert "repeats the page before it" in refused(api)
    assert api.calls["users"] == 2


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
    assert has_row(USERS, 2)
    assert not has_row(USERS, 3)
    assert api.calls["users"] == 2
    api.always["users"] = status(503)
    with pytest.raises(requests.HTTPError):
        has_row(USERS, 3)
    assert api.calls["users"] == 3
