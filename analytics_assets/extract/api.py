"""The API as data, in dlt's words, and the sources that are built from it. How it is read belongs in `reader`."""

import asyncio
import math
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import dlt
import requests
from dlt.extract import DltSource
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import EndpointResource, RESTAPIConfig

from analytics_assets.environment import SAMPLE, WINDOW
from analytics_assets.extract.access import BearerToken, shown
from analytics_assets.extract.answer import look
from analytics_assets.extract.client import Client
from analytics_assets.extract.pages import PageLog
from analytics_assets.extract.reading import Reading
from analytics_assets.extract.sync import Sync
from analytics_assets.schema import RESOURCES, Table, dlt_columns


def api(session: requests.Session) -> RESTAPIConfig:
    """The API and its six resources, as they are: with an ordinary session, dlt reads their rows page by page.

    With one of `Batches` it reads the same faster: each answer then has a batch of typed rows where the rows would be.
    """
    return {
        "client": {
            "base_url": dlt.config["api_base_url"],
            "auth": BearerToken(),
            "session": session,
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "total_path": None,
                "has_more_path": "has_more",
                "stop_after_empty_page": False,  # a hole, if there is more behind it
            },
        },
        "resource_defaults": {
            "primary_key": "id",
            "write_disposition": "merge",
            "endpoint": {"params": {"per_page": page_size()}},
        },
        "resources": [
            {"name": name, "endpoint": {"path": path(name), "data_selector": f"data.{name}"}} for name in RESOURCES
        ],
    }


def page_size() -> int:
    """Rows per page that are asked for."""
    return int(os.environ["API_PAGE_SIZE"])


def path(resource: str) -> str:
    """Path of a resource behind the base URL."""
    return str(dlt.config["api_resource_path"]).format(resource=resource)


class Batches(requests.Session):
    """Answers dlt's requests for the pages of one resource with what `reading` has read, in the API's own form."""

    reading: Reading

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        batch, has_more = self.reading.batch()
        response = requests.Response()
        response.status_code, response.url = 200, str(request.url)
        setattr(response, "json", lambda **_: {"data": {self.reading.table.name: [batch]}, "has_more": has_more})  # noqa: B010
        return response

    def __deepcopy__(self, _: Any) -> "Batches":
        return self  # dlt copies its configuration


class Source:
    """dlt's source of one resource; built once, since that takes longer than to load a page of rows."""

    def __init__(self, table: Table) -> None:
        self._table, self._session = table, Batches()
        config = api(self._session)
        resources = cast(list[EndpointResource], config["resources"])
        config["resources"] = [each for each in resources if each["name"] == table.name]
        self.dlt = rest_api_source(config, name=table.name)
        self.dlt.resources[table.name].apply_hints(columns=dlt_columns(table)).add_step(_loadable)

    def of(self, reading: Reading) -> DltSource:
        """The source, which gives the batches of `reading`; not while it gives those of another."""
        self._session.reading = reading
        return self.dlt


def _loadable(batches: list[Any], _: Any = None) -> Any:
    """One batch; dlt, on Postgres, cannot load a Parquet file of one without rows."""
    [batch] = batches
    return batch if batch.num_rows else dlt.mark.with_hints(batch, dlt.mark.make_hints(file_format="preferred"))


def reading(table: Table, sync: Sync) -> Reading:
    """A reading of the resource, to be fetched and closed; it goes on with one of the whole that was broken off."""
    log, name, params = page_log(table), path(table.name), {}
    if len(log):
        sync.window_start = None
    if sync.window_start:
        log.close()
        log = page_log(table, "window")
        parts = urlsplit(_window(table.name, sync))
        name, params = parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
    return Reading(table, sync, _url(name, {**params, "per_page": page_size()}), log, int(os.environ["READ_AHEAD"]))


def has_row(table: Table, number: int) -> bool:
    """Whether the API has a row number `number` (from 1) of this resource: one call, tried once."""

    async def ask() -> bool:
        async with Client(dlt.config["api_base_url"], attempts=1) as client:
            url = _url(path(table.name), {"per_page": 1})(number)
            _, seen = await client.get(url, Sync(), lambda body, where: look(table.name, body, where) if body else None)
            return bool(seen and seen.ids)

    return asyncio.run(ask())


def page_log(table: Table, *kind: str) -> PageLog:
    """The log of a reading of this resource of this API with this token, to be used by one process at a time."""
    api = (dlt.config["api_base_url"], path(table.name), str(page_size()), str(dlt.secrets.get("api_key")), *kind)
    name = sha256("\n".join(api).encode()).hexdigest()[:32]
    seconds = float(os.environ["RESUME_HOURS"]) * 3600
    return PageLog(Path(os.environ["DLT_DATA_DIR"]) / "pages" / table.name / name, seconds)


def api_name() -> str:
    """Which API this is, for people and for telling it from another."""
    return "the sample API" if SAMPLE in os.environ else shown(dlt.config["api_base_url"])


def has_window(table: Table) -> bool:
    """Whether `API_WINDOW_...` says how to ask for those rows of this resource that the API dates in a window."""
    return bool(os.environ.get(f"{WINDOW}{table.name.upper()}"))


def _window(resource: str, sync: Sync) -> str:
    """Path and query that ask for the window of `sync`, in seconds since 1970.

    With dlt's `incremental` it would also leave out what it dates differently from the API, fail where a date is
    missing, and keep the last one in its own state, which knows of no failed load.
    """
    assert sync.window_start
    start, end = int(sync.window_start.timestamp()), math.ceil(sync.started_at.timestamp())
    return os.environ[f"{WINDOW}{resource.upper()}"].format(start=start, end=end)


def _url(path: str, params: dict[str, Any]) -> Callable[[int], str]:
    """The URL of each page."""
    start = f"{str(dlt.config['api_base_url']).rstrip('/')}/{path.lstrip('/')}?{urlencode(params)}"
    return lambda page: f"{start}&page={page}"
