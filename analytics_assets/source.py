"""The API as data, and the dlt source built from it. Knows nothing of Dagster."""

from typing import Any

import dlt
import requests
from dlt.common import jsonpath
from dlt.extract import DltSource
from dlt.sources.helpers.rest_client.client import PageData, RESTClient
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_assets import client
from analytics_assets.batches import Batches, Sync
from analytics_assets.paging import PageNumbers, rows_at
from analytics_assets.schema import PAGE, Table, dlt_columns

PAGE_SIZE = 100  # the most that the API gives


def api(table: Table, session: requests.Session) -> RESTAPIConfig:
    """One resource of the API, in dlt's own words; read from `API_BASE_URL` and `API_RESOURCE_PATH`."""
    rows = ("data", table.name)
    return {
        "client": {"base_url": dlt.config["api_base_url"], "session": session},
        "resources": [
            {
                "name": table.name,
                "primary_key": table.key,
                "write_disposition": "merge",
                # Rows move between pages while they are read: of an id that came twice, the later page's row stays.
                "columns": dlt_columns(table) | {PAGE: {**dlt_columns(table)[PAGE], "dedup_sort": "desc"}},
                "endpoint": {
                    "path": _path(table),
                    "params": {"per_page": PAGE_SIZE},
                    "data_selector": jsonpath.compile_path(".".join(rows)),
                    "paginator": PageNumbers(rows),
                },
            }
        ],
    }


def _path(table: Table) -> str:
    return str(dlt.config["api_resource_path"]).format(resource=table.name)


def source(table: Table, sync: Sync | None = None) -> DltSource:
    """A dlt source of one resource, `table`, for one use: pages become Arrow batches, and `sync` counts them."""
    session, adapter = client.session()
    sync = sync or Sync()
    batches = Batches(table, sync)

    def gather(page: PageData[dict[str, Any]], _: str | None = None) -> Any:
        assert isinstance(page.paginator, PageNumbers)
        sync.calls = adapter.calls
        return batches.add(page, page.paginator.page, last=not page.paginator.has_next_page)

    source = rest_api_source(api(table, session), name=table.name)
    source.resources[table.name].add_step(gather)
    return source


def has_row(table: Table, number: int) -> bool:
    """Whether the API has a row number `number` (from 1) of this resource: one call, tried once."""
    session, _ = client.session(attempts=1)
    api = RESTClient(dlt.config["api_base_url"], session=session)
    return bool(rows_at(("data", table.name), api.get(_path(table), {"page": number, "per_page": 1})))
