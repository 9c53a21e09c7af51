"""The API as data, and the dlt source built from it. Knows nothing of Dagster."""

import math
import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dlt
import requests
from dlt.common import jsonpath
from dlt.extract import DltSource
from dlt.sources.helpers.rest_client.client import PageData, RESTClient
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_assets import client
from analytics_assets.batches import Batches
from analytics_assets.environment import SAMPLE, WINDOW
from analytics_assets.pagelog import PageLog
from analytics_assets.paging import Guard, PageNumbers, rows_at
from analytics_assets.readahead import ReadAhead
from analytics_assets.schema import PAGE, Table, dlt_columns
from analytics_assets.sync import Sync
from analytics_assets.token import shown

PAGE_SIZE = 100  # the most that the API gives
ROWS = jsonpath.compile_path("rows")  # where `ReadAhead` puts them; a text would be parsed again for every answer


def api(table: Table, session: requests.Session, sync: Sync) -> RESTAPIConfig:
    """One resource of the API, in dlt's own words; read from `API_BASE_URL` and `API_RESOURCE_PATH`.

    A window's bounds are plain parameters: with dlt's `incremental` it would also leave out what it dates differently
    from the API, fail where a date is missing, and keep the last one in its own state, which knows of no failed load.
    """
    path, window = (_path(table), {}) if sync.window_start is None else _window(table, sync)
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
                    "path": path,
                    "params": {**window, "per_page": PAGE_SIZE},
                    "data_selector": ROWS,
                    "paginator": PageNumbers(),
                },
            }
        ],
    }


def source(table: Table, sync: Sync | None = None, log: PageLog | None = None) -> DltSource:
    """A dlt source of one resource, `table`, for one use: pages become Arrow batches, and `sync` counts them.

    What `log` holds is not requested again, but for a window, which is short. `sync.close` ends what was started.
    """
    sync = sync or Sync()
    known_pages, log = (0, None) if sync.window_start else (sync.known_pages, log)
    pages = ReadAhead(Guard(_rows(table)), int(os.environ["READ_AHEAD"]), known_pages, log)
    session = client.session(pages)

    def close() -> None:
        session.close()
        sync.calls = pages.calls  # now that no page is on its way any more

    sync.close, sync.give_up = close, pages.give_up
    batches = Batches(table, sync)

    def gather(rows: PageData[dict[str, Any]], _: str | None = None) -> Any:
        assert isinstance(rows.paginator, PageNumbers)
        sync.pages, sync.resumed_pages = rows.paginator.current_value - 1, pages.resumed_pages
        if log and sync.resumed_pages:
            sync.started_at = log.started_at  # or a window after it would leave out what came after those pages
        batch = batches.add(rows, rows.paginator.pages, last=not rows.paginator.has_next_page)
        if batch is not None and not batch.num_rows:  # of which dlt, on Postgres, cannot load a Parquet file
            return dlt.mark.with_hints(batch, dlt.mark.make_hints(file_format="preferred"))
        return batch

    source = rest_api_source(api(table, session, sync), name=table.name)
    source.resources[table.name].add_step(gather)
    return source


def page_log(table: Table) -> PageLog:
    """The log of a reading of this resource of this API with this token, to be used by one process at a time."""
    api = (dlt.config["api_base_url"], _path(table), str(PAGE_SIZE), str(dlt.secrets.get("api_key")))
    name = sha256("\n".join(api).encode()).hexdigest()[:32]
    seconds = float(os.environ["RESUME_HOURS"]) * 3600
    return PageLog(Path(os.environ["DLT_DATA_DIR"]) / "pages" / table.name / name, seconds)


def has_row(table: Table, number: int) -> bool:
    """Whether the API has a row number `number` (from 1) of this resource: one call, tried once."""
    with client.session(client.JsonAdapter(attempts=1)) as session:
        api = RESTClient(dlt.config["api_base_url"], session=session)
        response = api.get(_path(table), {"page": number, "per_page": 1})
        return bool(rows_at(_rows(table), response))


def api_name() -> str:
    """Which API this is, for people and for telling it from another."""
    return "the sample API" if SAMPLE in os.environ else shown(dlt.config["api_base_url"])


def has_window(table: Table) -> bool:
    """Whether `API_WINDOW_...` says how to ask for those rows of this resource that the API dates in a window."""
    return bool(os.environ.get(_window_setting(table)))


def _window_setting(table: Table) -> str:
    return f"{WINDOW}{table.name.upper()}"


def _window(table: Table, sync: Sync) -> tuple[str, dict[str, list[str]]]:
    """Path and parameters that ask for the window of `sync`, in seconds since 1970."""
    assert sync.window_start
    bounds = {"start": int(sync.window_start.timestamp()), "end": math.ceil(sync.started_at.timestamp())}
    parts = urlsplit(os.environ[_window_setting(table)].format(**bounds))
    return parts.path, parse_qs(parts.query, keep_blank_values=True)


def _path(table: Table) -> str:
    return str(dlt.config["api_resource_path"]).format(resource=table.name)


def _rows(table: Table) -> tuple[str, str]:
    """Where the rows stand in an answer."""
    return ("data", table.name)
