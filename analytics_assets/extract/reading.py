"""The pages of one resource: in which order they are asked for, when they end, and the batches made of them.

They go through a file: `fetch` appends them in the reader's event loop, however far ahead, and `batch` takes them in
the thread that loads. How a single page is asked for is the client's; how rows are typed, in `batches`.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue

import pyarrow as pa

from analytics_assets.extract.answer import Seen, look
from analytics_assets.extract.batches import typed
from analytics_assets.extract.client import Client
from analytics_assets.extract.faults import GONE, Fault, UnexpectedAnswer
from analytics_assets.extract.pages import PageLog
from analytics_assets.extract.structs import Structs
from analytics_assets.extract.sync import Sync
from analytics_assets.schema import Table

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
BATCH_BYTES = 16 << 20  # of pages with wide rows fewer make a batch
FEWEST_AHEAD = 4
REPORT_SECONDS = 2.0
Page = tuple[bytes, Seen]


class GivenUp(Exception):
    """The run has ended before the resource could be read."""


class Reading:
    """One reading of `table` within `sync`, whose pages come from `url` of their number and are kept in `log`.

    `ahead` pages at the most are asked for at once, at first one, then two, then four, then a quarter of those that
    have come: what lies behind the end is asked for in vain. Up to `sync.known_pages`, where the resource ended last
    time, it is as many as may be; there nothing behind is asked for, and after it begins slowly again.
    """

    def __init__(self, table: Table, sync: Sync, url: Callable[[int], str], log: PageLog, ahead: int) -> None:
        self.table, self.sync, self.log = table, sync, log
        self._url, self._most_ahead, self._most_pages = url, ahead, int(os.environ["MOST_PAGES"])
        self._ahead: dict[int, asyncio.Task[Page]] = {}
        self._last = self._most_pages  # behind which nothing is asked for
        self._structs = Structs(table)
        self._ready: SimpleQueue[tuple[range, bool]] = SimpleQueue()  # pages of a batch, and if it is the last
        self._error: BaseException | None = None
        self.has_ended = threading.Event()  # that no page will be added any more

    async def fetch(self, client: Client) -> None:
        """Fill the log. What ends the reading too early is raised by `batch`."""
        try:
            await self._fetch(client)
        except asyncio.CancelledError:
            self._error = GivenUp(f"{self.table.name} was not read to its end, since the run has ended")
            raise
        except BaseException as error:
            self._error = error
        finally:
            for task in self._ahead.values():
                task.cancel()
            await asyncio.gather(*self._ahead.values(), return_exceptions=True)
            self.has_ended.set()
            self._ready.put((range(0), True))  # wakes who waits for what an error has kept from coming

    async def _fetch(self, client: Client) -> None:
        if len(self.log) and self.sync.window_start is None:
            await self._resume(client)
        else:
            self.log.keep(0)
        previous: list[bytes] = []
        first, rows, size, reported = 1, 0, 0, time.monotonic()
        for page in count(1):
            if page <= self.sync.resumed_pages:
                body, seen = self._logged(page)
            else:
                self._look_ahead(client, page)
                body, seen = await self._ahead.pop(page)
                self.log.append(body)
            if seen.ids and seen.ids == previous:
                problem = "repeats the page before it: the server seems to ignore 'page'"
                raise UnexpectedAnswer(f"{self._url(page)} {problem}")
            previous, has_more = seen.ids, bool(seen.ids) if seen.has_more is None else seen.has_more
            self.sync.pages, self.sync.rows = page, self.sync.rows + len(seen.ids)
            if not has_more or time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                logger.info("%s: %s rows read, %s pages", self.table.name, f"{self.sync.rows:,}", f"{page:,}")
            rows, size = rows + len(seen.ids), size + len(body)
            if rows >= BATCH_ROWS or size >= BATCH_BYTES or not has_more:
                self._ready.put((range(first, page + 1), not has_more))
                first, rows, size = page + 1, 0, 0
            if not has_more:
                return
            if page >= self._most_pages:
                raise UnexpectedAnswer(f"{self._url(page)} promises another page, more than MOST_PAGES")

    def _look_ahead(self, client: Client, page: int) -> None:
        """Ask for this page, and for those behind it that are likely to be there."""
        known = self.sync.known_pages if self.sync.window_start is None else 0
        if page <= known:
            end = min(page + self._most_ahead - 1, known)
        else:
            end = page + min(self._most_ahead, page - known, max(FEWEST_AHEAD, page // 4)) - 1
        for number in range(page, min(end, max(self._last, page)) + 1):
            if number not in self._ahead:
                self._ahead[number] = asyncio.ensure_future(self._page(client, number))

    async def _page(self, client: Client, page: int) -> Page:
        """One page. Where it says that it is the last, or stays broken, none behind it is needed."""
        is_last = True
        try:
            body, seen = await client.get(self._url(page), self.sync, self._look)
            is_last = seen.has_more is False
            # HTTP 204 says in its way what this says; a page in the log is not empty.
            return body or b'{"data":{"%s":[]}}' % self.table.name.encode(), seen
        finally:
            if is_last and page < self._last:
                self._last = page
                for number, task in self._ahead.items():
                    if number > page:
                        task.cancel()

    def _look(self, body: bytes, where: str) -> Seen:
        return look(self.table.name, body, where) if body else Seen([], None)

    def _logged(self, page: int) -> Page:
        return (body := self.log[page]), self._look(body, self._url(page))

    async def _resume(self, client: Client) -> None:
        """Take over the pages of the log but for the last, if the first, one between and the last still have its rows.

        The last may have more by now. Rows that moved elsewhere and left these pages alone are found by the next whole
        reading; until then nothing is inferred from their absence.
        """
        last, resumed = len(self.log), 0
        try:
            for page in sorted({1, (last + 1) // 2, last}):
                before = self._logged(page)[1].ids
                _, seen = await client.get(self._url(page), self.sync, self._look)
                if before != (seen.ids[: len(before)] if page == last else seen.ids):
                    break
            else:
                resumed = last - 1
        except Fault as fault:
            if not (isinstance(fault, UnexpectedAnswer) or fault.status in GONE):  # as if the page were gone
                raise
        if resumed:
            logger.info("%s pages of an earlier reading are used: %s", f"{resumed:,}", self._url(last))
            self.sync.started_at = self.log.started_at  # or a window after it would miss what came after those pages
        self.sync.resumed_pages = resumed
        self.log.keep(resumed)

    def batch(self) -> tuple[pa.Table, bool]:
        """The next rows, about `BATCH_ROWS` or all that are left, waiting for them; and whether there are more.

        A resource without rows gives one batch without rows. With the last one comes the verdict over the reading,
        `TooFewRows` or `TooManyRejected`. Raises what ended the reading.
        """
        pages, is_last = self._ready.get()
        if self._error:
            raise self._error
        bodies = [self.log[page] for page in pages]
        batch, rejected, extra_fields = typed(self._structs, self.table, bodies, pages.start, self.sync.started_at)
        self.sync.rejected += rejected
        self.sync.extra_fields |= extra_fields
        self.sync.filled |= {name for name in batch.column_names if batch[name].null_count < batch.num_rows}
        if is_last:
            self.sync.finish()
        return batch, not is_last
