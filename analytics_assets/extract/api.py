"""The API as dlt's REST configuration, and what follows from it: URLs, and the folders of kept pages."""

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from dlt.sources.rest_api.typing import RESTAPIConfig
from yarl import URL

from analytics_assets.extract.access import BearerToken, shown
from analytics_assets.extract.answer import look
from analytics_assets.extract.client import Client
from analytics_assets.extract.pages import PageLog
from analytics_assets.settings import Settings
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

WINDOW_MARGIN = timedelta(days=3650)  # a window ends later by this, so that no clock that is wrong hides rows


def api(settings: Settings, session: requests.Session) -> RESTAPIConfig:
    """The API and its six resources. With an ordinary session, dlt reads their rows page by page.

    With the session of a `source`, which is faster, each answer contains a batch of typed rows instead of rows.
    """
    return {
        "client": {
            "base_url": settings.api_base_url,
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
            "endpoint": {"params": {"per_page": settings.api_page_size}},
        },
        "resources": [
            {"name": name, "endpoint": {"path": path(settings, name), "data_selector": f"data.{name}"}}
            for name in RESOURCES
        ],
    }


def path(settings: Settings, resource: str) -> str:
    """Path of a resource after the base URL."""
    return settings.api_resource_path.format(resource=resource)


def page_url(settings: Settings, table: Table, window_start: datetime | None) -> Callable[[int], str]:
    """The URL of each page: of all rows, or of the rows that the API dates after `window_start`.

    dlt's `incremental` is not used: it drops rows that it dates differently from the API, fails on a missing date, and
    keeps the last date in its own state even if the load fails.
    """
    if window_start is None:
        return _url(settings, path(settings, table.name))
    end = datetime.now(UTC) + WINDOW_MARGIN
    start, stop = int(window_start.timestamp()), math.ceil(end.timestamp())  # seconds since 1970
    parts = urlsplit(settings.api_windows[table.name].format(start=start, end=stop))
    given = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in ("page", "per_page")]
    return _url(settings, parts.path, given)


def has_row(settings: Settings, table: Table, number: int) -> bool:
    """Whether the API has row `number` (from 1) of this resource: one call without retries."""

    async def ask() -> bool:
        async with Client(settings, attempts=1) as client:
            url = _url(settings, path(settings, table.name), size=1)(number)
            _, seen = await client.get(url, Sync(), lambda body, where: look(table.name, body, where) if body else None)
            return bool(seen and seen.ids)

    return asyncio.run(ask())


def page_log(settings: Settings, table: Table, *kind: int | str) -> PageLog:
    """The page log for this resource, API, token and `kind`; one process may use it at a time."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    api = (settings.api_base_url, path(settings, table.name), str(settings.api_page_size), key, *map(str, kind))
    name = sha256("\n".join(api).encode()).hexdigest()[:32]
    return PageLog(settings.dlt_data_dir / "pages" / table.name / name, settings.resume_hours * 3600)


def address(settings: Settings, table: Table) -> str:
    """The URL of a resource, normalized and without password and parameters: a warehouse knows whose rows it has."""
    if settings.reads_sample_api:  # at another port each time, and in a warehouse of its own
        return api_name(settings)
    return str(URL(_url(settings, path(settings, table.name))(1)).with_query(None))


def api_name(settings: Settings) -> str:
    """The name of the API, for display and to tell APIs apart."""
    return "the sample API" if settings.reads_sample_api else shown(settings.api_base_url)


def _url(
    settings: Settings, path: str, params: Sequence[tuple[str, str]] = (), size: int | None = None
) -> Callable[[int], str]:
    base = shown(settings.api_base_url).rstrip("/")  # the password is not sent, and in no message
    start = f"{base}/{path.lstrip('/')}?{urlencode([*params, ('per_page', size or settings.api_page_size)])}"
    return lambda page: f"{start}&page={page}"
