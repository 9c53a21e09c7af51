"""The sample API over HTTP: token, paging, growth, and the faults that are switched on.

What the rows hold belongs in `data`, what a fault does in `faults`, options and the process in `__main__`.
"""

import asyncio
import functools
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from analytics_assets.sample_api.academy import Academy
from analytics_assets.sample_api.data import document, rows
from analytics_assets.sample_api.faults import Fault, parse_faults
from analytics_assets.sample_api.oddities import moment

MOST_PER_PAGE = 100
# How a resource is asked for rows of a window of dates: the path, two parameters, and the field that has the date.
WINDOWS = {
    "awarded_certifications": ("awarded_certifications", "start", "end", "awarded_at"),
    "registrations": ("registrations/by_date_range", "start_time", "end_time", "created_at"),
}


@dataclass(eq=False)
class SampleApi:
    """All resources of an academy under `<url>/v1`, and beside that, without a token, what steers them.

    `growth` is in rows a minute and by resource, `latency` is in seconds and added to every request.
    """

    academy: Academy
    url: str
    token: str
    latency: float
    growth: dict[str, float]
    faults: dict[str, list[Fault]]
    calls: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def application(self) -> Starlette:
        """The server as an ASGI application. What raises ValueError is answered with 400."""
        routes = [Route("/v1/{path:path}", self.read), Route("/calls", self.count_calls)]
        routes += [Route(f"/{what}", self.steer, methods=["POST"]) for what in ("faults", "rows")]
        handlers = {ValueError: lambda _, error: JSONResponse({"error": str(error)}, 400)}
        return Starlette(routes=routes, exception_handlers=handlers)

    def total(self, resource: str) -> int:
        """How many rows a resource has by now."""
        grown = self.growth.get(resource, 0) * (time.monotonic() - self.started) / 60
        return max(self.academy.sizes[resource] + self.added[resource] + int(grown), 0)

    async def read(self, request: Request) -> Response:
        """Answer with a page; the counting comes first, so that refused and faulty requests count too."""
        path, query = request.path_params["path"], request.query_params
        resource = next((name for name, window in WINDOWS.items() if window[0] == path), path)
        known = resource in self.academy.sizes
        self.calls[resource] += known
        await asyncio.sleep(self.latency)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response("Unauthorized", 401, {"content-type": "text/plain"})
        if not known:
            return JSONResponse({"error": f"there is no {path}"}, 404)
        number, per_page = _number(query, "page", "1"), min(_number(query, "per_page", "25"), MOST_PER_PAGE)
        indexes: range | tuple[int, ...] = range(self.total(resource))
        _, start, end, _ = WINDOWS.get(resource, ("", "", "", ""))
        if path != resource or (start and start in query):
            since, until = _number(query, start, least=0), _number(query, end, least=0)
            indexes = _dated(self.academy, resource, self.total(resource), since, until)
        page = {"academy": self.academy, "resource": resource, "number": number, "per_page": per_page}
        page |= {"url": f"{self.url}/v1/{resource}", "indexes": indexes[: number * per_page + 1]}
        for fault in self.faults.get(resource, ()):
            if fault.strikes(number):
                return await fault.answer(page)
        return Response(_rendered(**page), media_type="application/json")

    async def count_calls(self, _: Request) -> JSONResponse:
        """`GET /calls` counts requests by resource."""
        return JSONResponse({name: self.calls[name] for name in self.academy.sizes})

    async def steer(self, request: Request) -> JSONResponse:
        """`POST /faults` with `{"users": "status:500"}` or `{"users": null}` changes the faults of a resource.

        `POST /rows` with `{"users": 3}` adds rows at its end, or takes them away if negative. Both answer with the
        number of rows of every resource.
        """
        wanted = await request.json()
        if not isinstance(wanted, dict) or not wanted.keys() <= self.academy.sizes.keys():
            raise ValueError(f"a JSON object is wanted, with keys among {', '.join(self.academy.sizes)}")
        if request.url.path == "/faults":
            self.faults |= {name: [] if text is None else parse_faults(str(text)) for name, text in wanted.items()}
        else:
            self.added.update({name: int(str(count)) for name, count in wanted.items()})
        return JSONResponse({name: self.total(name) for name in self.academy.sizes})


@functools.cache
def _rendered(**page: Any) -> bytes:
    """The body of a page, rendered when it is first asked for, and again only when rows were added to it."""
    return orjson.dumps(document(**page))


@functools.cache
def _dated(academy: Academy, resource: str, total: int, since: int, until: int) -> tuple[int, ...]:
    """Which of the first `total` rows are dated from `since` to before `until`, in seconds since 1970."""
    dates = [moment(row[WINDOWS[resource][-1]]) for row in rows(academy, resource, range(total))]
    return tuple(index for index, date in enumerate(dates) if since <= date < until)


def _number(query: Mapping[str, str], name: str, default: str = "", least: int = 1) -> int:
    text = query.get(name, default)
    if not re.fullmatch("[0-9]{1,11}", text) or int(text) < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, not {text!r}")
    return int(text)
