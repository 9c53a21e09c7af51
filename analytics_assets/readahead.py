"""Later pages are requested while earlier ones are used, underneath a source that asks for one page after the other.

What an answer means is told by the guard; how a single page is sent and tried again is the client's.
"""

import logging
import os
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import requests

from analytics_assets.answer import JsonResponse, decoded
from analytics_assets.client import Call, JsonAdapter
from analytics_assets.pagelog import PageLog
from analytics_assets.paging import Guard, Row, UnexpectedResponse

logger = logging.getLogger(__name__)

MOST_PAGES_IN_AN_ANSWER = 25  # each answer costs dlt as much as reading a page; more than this saves no more
MOST_SECONDS_FOR_AN_ANSWER = 2.0
FEWEST_AHEAD = 4
GONE = frozenset({404, 410})
PAGE = re.compile(r"(?<=[?&]page=)\d+")


class ReadAhead(JsonAdapter):
    """Answers the request for a page with that page and those behind it, as `{"rows", "sizes", "has_more"}`.

    `depth` pages at the most are in flight, also while an answer is used: behind it wait as many as make another, until
    one that came says that it is the last; with a depth of 1 none waits. At first an answer is one page, the next two,
    then four: a resource of one page costs one call. Up to `known_pages`, where the resource ended last time, each
    answer is whole; there nothing is requested before it is needed, and behind it starts slowly again. Pages are given
    to `guard` in their order; a page that failed, or that the guard refuses, raises when its turn comes. Where page
    `MOST_PAGES` has another behind it, that is `UnexpectedResponse`.

    Pages are kept in `log`, and those that it already has are not requested but for three of them: where these hold
    other rows by now, the reading starts over. `resumed_pages` are those taken over.
    """

    def __init__(self, guard: Guard, depth: int, known_pages: int = 0, log: PageLog | None = None) -> None:
        super().__init__(in_flight=depth)
        self._guard = guard
        self._one_by_one = depth == 1
        self._known_pages = known_pages
        self._kept = log
        self.resumed_pages = 0
        self._most_pages = int(os.environ["MOST_PAGES"])
        self._size = MOST_PAGES_IN_AN_ANSWER if known_pages else 1
        self._ahead: dict[int, Future[JsonResponse]] = {}
        self._last = self._most_pages  # behind which nothing is requested
        self._threads = ThreadPoolExecutor(depth, thread_name_prefix="read-ahead")

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        """The pages from the requested one on, in one answer."""
        call = self.call(request, *args, **kwargs)
        first = _page(call)
        if first == 1 and self._kept:
            self._resume(call, self._kept)
        if first == self._known_pages + 1:
            self._size = 1
        size, end = self._size, time.monotonic() + MOST_SECONDS_FOR_AN_ANSWER
        self._size = min(size * 2, MOST_PAGES_IN_AN_ANSWER)
        rows: list[Row] = []
        sizes: list[int] = []
        for page in count(first):
            self._look_ahead(call, page, size)
            response = self._ahead.pop(page).result()
            got, has_more = self._guard(response)
            if self._kept is not None and page > len(self._kept):
                self._kept.append(response.content)
            rows += got
            sizes.append(len(got))
            if has_more and page >= self._most_pages:
                raise UnexpectedResponse(f"{response.url} promises another page, more than MOST_PAGES")
            if not has_more or page == self._known_pages or len(sizes) == size or time.monotonic() > end:
                break
        if has_more and page != self._known_pages:
            self._look_ahead(call, page + 1, self._size)
        body = {"rows": rows, "sizes": sizes, "has_more": has_more}
        return JsonResponse(response.url, response.status_code, response.headers, body)

    def _resume(self, call: Call, log: PageLog) -> None:
        """Take over the pages of the log but for the last, if the first, one between and the last still have its rows.

        The last may have more by now. Rows that moved elsewhere and left these pages alone are found by the next whole
        reading; until then nothing is inferred from their absence.
        """
        last = len(log)
        try:
            for page in sorted({1, (last + 1) // 2, last}):
                before, now = (self._guard.ids(ask(_at_page(call, page))) for ask in (self._logged, self.exchange))
                if before != (now[: len(before)] if page == last else now):
                    break
            else:
                self.resumed_pages = last - 1
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in GONE:
                raise
        except UnexpectedResponse:
            pass  # as if the page were gone
        if self.resumed_pages:
            logger.info("%s pages of an earlier reading are used: %s", f"{self.resumed_pages:,}", call.url)
        log.keep(self.resumed_pages)

    def _look_ahead(self, call: Call, start: int, size: int) -> None:
        stop = min(start + (1 if self._one_by_one else size), self._last + 1)
        if start <= self._known_pages:
            stop = min(stop, self._known_pages + 1)
        else:
            stop = min(stop, start + max(FEWEST_AHEAD, start // 4))  # what is behind the end is asked for in vain
        for page in range(start, stop):
            if page not in self._ahead:
                self._ahead[page] = self._threads.submit(self._fetch, _at_page(call, page))

    def _fetch(self, call: Call) -> JsonResponse:
        """The page. Where it says that it is the last, or stays broken, those behind it that wait are not requested."""
        page = _page(call)
        if page <= self.resumed_pages:
            return self._logged(call)
        if page > self._last:
            raise requests.ConnectionError(f"{call.url} is not needed any more")
        is_last = True
        try:
            response = self.exchange(call)
            is_last = isinstance(response.body, dict) and response.body.get("has_more") is False
            return response
        finally:
            if is_last:
                self._last = min(self._last, page)

    def _logged(self, call: Call) -> JsonResponse:
        """What was answered to this call before."""
        assert self._kept is not None
        return JsonResponse(call.url, 200, {}, decoded(self._kept[_page(call)]))

    def close(self) -> None:
        """End everything that is under way."""
        super().close()
        self._threads.shutdown(cancel_futures=True)


def _page(call: Call) -> int:
    return int(PAGE.findall(call.target)[0])


def _at_page(call: Call, page: int) -> Call:
    """The same call for another page."""
    return replace(call, target=PAGE.sub(str(page), call.target), url=PAGE.sub(str(page), call.url))
