"""The API as one configuration of dlt: true for an ordinary session, and the same rows by the reader."""

from typing import Any

import pytest
import requests
from dlt.sources.rest_api import rest_api_source

from analytics_assets.extract.api import api as configuration
from analytics_assets.extract.api import has_row
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import Materialize, Query, configured
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.extract.reading import USERS, batches, read, reading


def test_dlt_reads_it_with_an_ordinary_session(api: ContractApi) -> None:
    """Page after page, with the token, over a hole: the ids are those that the reader gives, for each resource."""
    for size, name in enumerate(RESOURCES):
        api.rows[name] = [{"id": f"{name}-{number}", "name": "x"} for number in range(130 * size)]

    def page(resource: str, page: int, size: int) -> Any:
        """As the contract has it, but page 2 is empty and those behind it come one later."""
        if page == 2:
            return {"has_more": True, "data": {resource: []}}
        return api.contract_page(resource, page - (page > 2), size)

    api.page = page
    source = rest_api_source(configuration(configured(), requests.Session()), name="as_it_is")
    assert list(source.resources) == list(RESOURCES)
    for table in RESOURCES.values():
        ids = [row["id"] for row in source.resources[table.name]]
        assert ids == [row["id"] for row in api.rows[table.name]] == read(table=table)
    assert set(api.sent) == {"test-token"}


def test_it_needs_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is looked up when a request is sent, so the configuration and its source can be built without one."""
    monkeypatch.delenv("API_KEY", raising=False)
    source = rest_api_source(configuration(configured(), requests.Session()), name="without_a_key")
    assert {name: source.resources[name].write_disposition for name in RESOURCES} == dict.fromkeys(RESOURCES, "merge")
    with pytest.raises(Exception, match="API_KEY is not set"):
        list(source.resources["users"])


def test_the_page_size_is_a_setting(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows are asked for at once; whether there is a certain row is asked with one."""
    monkeypatch.setenv("API_PAGE_SIZE", "7")
    api.rows["users"] = [{"id": number} for number in range(20)]
    sync = Sync()
    assert read(sync) == [str(number) for number in range(20)]
    assert (sync.pages, sync.rows) == (3, 20)
    assert has_row(configured(), USERS, 20)
    assert not has_row(configured(), USERS, 21)


def test_a_page_that_is_too_large_is_read_in_smaller_ones(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the setting, and the setting helps; batches of wide rows have fewer of them."""
    api.rows["users"] = [{"id": number, "picture": f"{number}" * 200_000} for number in range(100, 150)]
    result = materialize("users")
    assert not result.success
    assert "larger than 16 MB" in str(result.all_events)
    assert "API_PAGE_SIZE" in str(result.all_events)
    assert api.calls["users"] == 1
    monkeypatch.setenv("API_PAGE_SIZE", "10")
    with reading() as begun:
        assert [batch.num_rows for batch in batches(begun)] == [30, 20]
    assert materialize("users").success
    assert query("SELECT count(*) FROM users") == [(50,)]
