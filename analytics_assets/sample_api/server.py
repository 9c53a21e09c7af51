"""The sample API over HTTP: token, paging, growth, and the faults that are switched on.

`SampleApi` is a plain ASGI application, because it answers every page; Starlette routes the few requests that steer it.
What the rows hold belongs in `data`, what a fault does in `faults`, options and the process in `__main__`.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from analytics_assets.sample_api.data import Academy, dated, rows
from analytics_assets.sample_api.faults import FAULTS, Fault, Reply, parse_faults
from analytics_assets.sample_api.oddities import Row

DEFAULT_PER_PAGE = 25
MOST_PER_PAGE = 100
JSON = {"content-type": "application/json"}


class Window(NamedTuple):
    """How a resource is asked for rows of a window of dates: behind its own path, and by which parameters."""

    path: str
    start: str
    end: str


WINDOWS = {
    "awarded_certifications": Window("", "start", "end"),
    "registrations": Window("by_date_range", "start_time", "end_time"),
}


class Listing(NamedTuple):
    """The rows that are paged through: how many, and those from an index to before another."""

    total: int
    read: Callable[[int, int], list[Row]]


class SampleApi:
    """The six resources below one path; `url` is where that path begins, `growth` is in rows a minute."""

    def __init__(
        self,
        academy: Academy,
        url: str,
        token: str,
        latency: float = 0,
        growth: Mapping[str, float] | None = None,
        faults: Mapping[str, list[Fault]] | None = None,
    ) -> None:
        """`latency` is in seconds, added to every request. Raises KeyError for an unknown resource."""
        self.academy, self.url, self.latency = academy, url, latency
        self.authorization = f"Bearer {token}".encode()
        self.growth, self.faults = growth or {}, dict(faults or {})
        self.calls: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.started = time.monotonic()
        self._pages: dict[tuple[str, int, int, int], bytes] = {}
        self._dates: dict[tuple[str, int], float] = {}

    def total(self, resource: str) -> int:
        """How many rows a resource has by now."""
        grown = self.growth.get(resource, 0) * (time.monotonic() - self.started) / 60
        return max(self.academy.sizes[resource] + self.added[resource] + int(grown), 0)

    def whole(self, resource: str, total: int) -> Listing:
        """All rows of a resource."""
        return Listing(total, lambda start, stop: rows(self.academy, resource, start, min(stop, total)))

    def window(self, resource: str, start: int, end: int) -> Listing:
        """The rows of a resource that are dated from `start` to before `end`, in seconds since 1970."""
        found = [index for index in range(self.total(resource)) if start <= self._dated(resource, index) < end]
        return Listing(
            len(found),
            lambda first, stop: [row for at in found[first:stop] for row in rows(self.academy, resource, at, at + 1)],
        )

    def _dated(self, resource: str, index: int) -> float:
        if (resource, index) not in self._dates:
            self._dates[resource, index] = dated(self.academy, resource, index)
        return self._dates[resource, index]

    def document(self, resource: str, page: int, per_page: int, listing: Listing) -> dict[str, Any]:
        """The JSON document of a page."""
        end = page * per_page
        return {
            "page": page,
            "per_page": per_page,
            "has_more": end < listing.total,
            "url": f"{self.url}/{resource}?page={page}&per_page={per_page}",
            "data": {resource: listing.read(end - per_page, end)},
        }

    def rendered(self, resource: str, page: int, per_page: int) -> bytes:
        """The body of a page, rendered when it is first asked for, and again only when rows were added to it."""
        total = min(self.total(resource), page * per_page + 1)
        key = resource, page, per_page, total
        if key not in self._pages:
            self._pages[key] = orjson.dumps(self.document(resource, page, per_page, self.whole(resource, total)))
        return self._pages[key]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the counting comes first, so that refused and faulty requests count too."""
        resource, *below = scope["path"].removeprefix(f"{scope['root_path']}/").split("/")
        window = WINDOWS.get(resource)
        known = resource in self.academy.sizes and below in ([], [window.path] if window else [])
        if known:
            self.calls[resource] += 1
        if self.latency:
            await asyncio.sleep(self.latency)
        if (b"authorization", self.authorization) not in scope["headers"]:
            await _send(send, 401, {"content-type": "text/plain"}, b"Unauthorized")
            return
        if not known:
            await _send(send, 404, JSON, orjson.dumps({"error": f"there is no {resource}"}))
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            page = _positive(query, "page", 1)
            per_page = min(_positive(query, "per_page", DEFAULT_PER_PAGE), MOST_PER_PAGE)
            listing = None
            if window and (below or window.start in query):
                listing = self.window(resource, _seconds(query, window.start), _seconds(query, window.end))
        except ValueError as error:
            await _send(send, 400, JSON, orjson.dumps({"error": str(error)}))
            return
        fault = next((fault for fault in self.faults.get(resource, ()) if fault.strikes(page)), None)
        if fault:
            listing = listing or self.whole(resource, self.total(resource))
            await self._fail(fault, resource, page, per_page, listing, receive, send)
        elif listing:
            await _send(send, 200, JSON, orjson.dumps(self.document(resource, page, per_page, listing)))
        else:
            await _send(send, 200, JSON, self.rendered(resource, page, per_page))

    async def _fail(
        self, fault: Fault, resource: str, page: int, per_page: int, listing: Listing, receive: Receive, send: Send
    ) -> None:
        reply = Reply(
            resource=resource,
            page=page,
            per_page=per_page,
            total=listing.total,
            read=listing.read,
            document=self.document(resource, page, per_page, listing),
        )
        FAULTS[fault.name](reply, fault.argument)
        body = orjson.dumps(reply.document) if reply.body is None else reply.body
        if reply.ending == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif reply.ending == "reset":
            # uvicorn refuses to write a header that HTTP does not allow, and closes the connection instead.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"\0")]})
        elif reply.ending == "cut":
            # With less sent than was promised uvicorn closes the connection when this returns.
            await _send(send, reply.status, reply.headers, body, sent=len(body) // 2)
        elif reply.ending == "slow":
            await _send(send, reply.status, reply.headers, body, sent=0)
            for position in range(len(body)):
                await asyncio.sleep(1)
                await send({"type": "http.response.body", "body": body[position : position + 1], "more_body": True})
        else:
            await _send(send, reply.status, reply.headers, body)


def application(api: SampleApi) -> Starlette:
    """The whole server: the API under `/v1`, and beside it, without a token, what steers it.

    `GET /calls` counts requests by resource. `POST /faults` with `{"users": "status:500"}` or `{"users": null}` changes
    the faults of a resource, `POST /rows` with `{"users": 3}` adds rows at its end, or takes them away if negative.
    """

    async def calls(_: Request) -> JSONResponse:
        return JSONResponse({resource: api.calls[resource] for resource in api.academy.sizes})

    async def faults(request: Request) -> JSONResponse:
        try:
            wanted = await _by_resource(request)
            changes = {name: [] if text is None else parse_faults(str(text)) for name, text in wanted.items()}
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        api.faults.update(changes)
        return JSONResponse(sorted(changes))

    async def add_rows(request: Request) -> JSONResponse:
        try:
            api.added.update({name: int(count) for name, count in (await _by_resource(request)).items()})
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({resource: api.total(resource) for resource in api.academy.sizes})

    async def _by_resource(request: Request) -> dict[str, Any]:
        body = await request.json()
        if not isinstance(body, dict) or not body.keys() <= api.academy.sizes.keys():
            raise ValueError(f"a JSON object is wanted, with keys among {', '.join(api.academy.sizes)}")
        return body

    return Starlette(
        routes=[
            Route("/calls", calls),
            Route("/faults", faults, methods=["POST"]),
            Route("/rows", add_rows, methods=["POST"]),
            Mount("/v1", app=api),
        ]
    )


def _positive(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise ValueError(f"{name} must be a positive integer, not {text!r}")
    return int(text)


def _seconds(query: Mapping[str, str], name: str) -> int:
    """A bound of a window, in seconds since 1970."""
    if not re.fullmatch("[0-9]{1,11}", query.get(name, "")):
        raise ValueError(f"{name} must be a time in seconds since 1970, not {query.get(name)!r}")
    return int(query[name])


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes, sent: int | None = None) -> None:
    """Send a response, or only the first `sent` bytes of it, leaving the rest owed."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body[:sent], "more_body": sent is not None})
