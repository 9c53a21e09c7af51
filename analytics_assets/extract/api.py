"""The API as dlt's REST configuration, and what follows from it: URLs, and the folders of kept pages."""

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import dlt
import requests
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_assets.extract.access import BearerToken, shown
from analytics_assets.extract.answer import look
from analytics_assets.extract.client import Client
from analytics_assets.extract.pages import PageLog
from analytics_assets.settings import SAMPLE, WINDOW
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync


def api(session: requests.Session) -> RESTAPIConfig:
    """The API and its six resources as they are. With an ordinary session, dlt reads their rows page by page.

    With the session of a `source` dlt reads the same faster: its answers contain a batch of typed rows in place of
    rows.
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
                "stop_after_empty_page": False,  # `has_more` decides, also on an empty page
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
    """Rows requested per page."""
    return int(os.environ["API_PAGE_SIZE"])


def path(resource: str) -> str:
    """Path of a resource after the base URL."""
    return str(dlt.config["api_resource_path"]).format(resource=resource)


def page_url(table: Table, window_start: datetime | None, end: datetime) -> Callable[[int], str]:
    """The URL of each page: of all rows, or of the rows that the API dates in a window.

    dlt's `incremental` is not used: it drops rows that it dates differently from the API, fails on a missing date, and
    keeps the last date in its own state even if the load fails.
    """
    if window_start is None:
        return _url(path(table.name), page_size())
    start, stop = int(window_start.timestamp()), math.ceil(end.timestamp())  # seconds since 1970
    parts = urlsplit(os.environ[_window_setting(table)].format(start=start, end=stop))
    given = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in ("page", "per_page")]
    return _url(parts.path, page_size(), given)


def has_row(table: Table, number: int) -> bool:
    """Whether the API has row `number` (from 1) of this resource: one call without retries."""

    async def ask() -> bool:
        async with Client(dlt.config["api_base_url"], attempts=1) as client:
            url = _url(path(table.name), 1)(number)
            _, seen = await client.get(url, Sync(), lambda body, where: look(table.name, body, where) if body else None)
            return bool(seen and seen.ids)

    return asyncio.run(ask())


def page_log(table: Table, *kind: str) -> PageLog:
    """The page log for this resource, API and token; one process may use it at a time."""
    api = (dlt.config["api_base_url"], path(table.name), str(page_size()), str(dlt.secrets.get("api_key")), *kind)
    name = sha256("\n".join(api).encode()).hexdigest()[:32]
    seconds = float(os.environ["RESUME_HOURS"]) * 3600
    return PageLog(Path(os.environ["DLT_DATA_DIR"]) / "pages" / table.name / name, seconds)


def api_name() -> str:
    """The name of the API, for display and to tell it from another."""
    return "the sample API" if SAMPLE in os.environ else shown(dlt.config["api_base_url"])


def has_window(table: Table) -> bool:
    """Whether `API_WINDOW_...` says how to request the rows of this resource in a window of dates."""
    return bool(os.environ.get(_window_setting(table)))


def _window_setting(table: Table) -> str:
    return f"{WINDOW}{table.name.upper()}"


def _url(path: str, size: int, params: Sequence[tuple[str, str]] = ()) -> Callable[[int], str]:
    base = shown(dlt.config["api_base_url"]).rstrip("/")  # nothing of a password is in a message, nor sent
    start = f"{base}/{path.lstrip('/')}?{urlencode([*params, ('per_page', str(size))])}"
    return lambda page: f"{start}&page={page}"
