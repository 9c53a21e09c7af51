"""The pages of one resource: the order of the requests, the last page, and the batches made of the pages.

The reader's event loop appends pages to a file, however far it is ahead; one batch is typed while the one before it is
loaded. `client` sends the requests, and `batches` types the rows.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import pyarrow as pa
from filelock import FileLock, Timeout

from analytics_assets.extract.answer import Seen, look
from analytics_assets.extract.api import page_log, page_url
from analytics_assets.extract.batches import Typed, typed
from analytics_assets.extract.client import Client
from analytics_assets.extract.faults import GONE, Fault, UnexpectedAnswer
from analytics_assets.extract.pages import PageLog
from analytics_assets.extract.structs import Structs
from analytics_assets.extract.threads import in_thread
from analytics_assets.settings import Settings
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
BATCH_BYTES = 16 << 20  # limits the rows of a batch if they are wide
FEWEST_AHEAD = 4
LOCK_SECONDS = 0.1  # between two attempts to lock the resource
REPORT_SECONDS = 2.0
Page = tuple[bytes, Seen]


class GivenUp(Fault):
    """The run ended before the resource was read to its end."""


class Reading:
    """One reading of `table` within `sync`: `begin` and `end` run in the event loop, `batch` in the thread that loads.

    At most `READ_AHEAD` requests are in flight. Requests for pages after the last one are wasted, so a first reading
    starts with one request, then two, then four, then a quarter of the pages read so far. Later readings use all slots
    up to the last page of the sync before (`sync.known_pages`), and then start slowly again.
    """

    def __init__(self, table: Table, sync: Sync, settings: Settings) -> None:
        self.table, self.sync, self._settings = table, sync, settings
        self.is_open: Future[None] = Future()  # done when this run holds the lock of the resource
        self.has_ended = threading.Event()  # set when no more pages will be added
        self._ahead: dict[int, asyncio.Task[Page]] = {}
        self._last = settings.most_pages  # no page after it is requested
        self._ready: SimpleQueue[tuple[range, bool]] = SimpleQueue()  # pages of a batch, and whether it is the last
        self._structs, self._typing = Structs(table), ThreadPoolExecutor(1, "typing")
        self._next: Future[tuple[Typed, bool]]
        self._error: BaseException | None = None
        self._gave_rows = False
        self.task: asyncio.Task[None]
        self.log: PageLog  # once it is open
        # One thread acquires it, another releases it.
        self._lock = FileLock(settings.dlt_data_dir / f"{table.name}.lock", thread_local=False)
        self._loaded = settings.dlt_data_dir / f"{table.name}.loaded"  # the number of the last sync of this machine
        self._last_loaded = self._read_loaded()

    def begin(self, client: Client, before: Sequence["Reading"]) -> None:
        """Start reading once the readings `before` have ended."""
        self.task = asyncio.create_task(self._read(client, [reading.task for reading in before]))
        self.task.add_done_callback(self._note_end)
        self._next = self._typing.submit(self._type_next)

    def end(self) -> None:
        """Stop reading."""
        self.task.cancel()

    def close(self, is_kept: bool = True) -> None:
        """Release the resource for other runs after the reading has ended, and keep or remove its pages."""
        try:
            self._typing.shutdown()
            if self.is_open.done() and not self.is_open.exception():
                # An interrupted window is not resumed.
                self.log.close() if is_kept and self.sync.window_start is None else self.log.remove()
        finally:
            self._lock.release()

    def note_loaded(self) -> None:
        """Tell the next run, which may be waiting for the lock, which number it gets."""
        with suppress(OSError):  # that run is overtaken then, and reads again
            self._loaded.write_text(str(self.sync.number))

    def _read_loaded(self) -> int:
        with suppress(OSError, ValueError):
            return int(self._loaded.read_text())
        return 0

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        given_up = GivenUp(f"{self.table.name} was not read to its end, since the run has ended")
        self._error = given_up if task.cancelled() else task.exception()
        if self._error and not self.is_open.done():
            self.is_open.set_exception(self._error)
        self.has_ended.set()
        self._ready.put((range(0), True))  # after an error, wakes the thread that waits for pages

    async def _read(self, client: Client, before: "list[asyncio.Task[None]]") -> None:
        if before:
            await asyncio.wait(before)
        await self._take_lock()
        if (loaded := self._read_loaded()) != self._last_loaded:  # by a run that had the lock
            self.sync.number = loaded + 1
        self.sync.begin()
        # Pages that were read before another sync was loaded would bring its older rows back.
        self.log = await in_thread(page_log, self._settings, self.table, self.sync.number)
        if len(self.log):
            self.sync.window_start = None  # an interrupted full reading is resumed first
        if self.sync.window_start:
            self.log.close()
            self.log = await in_thread(page_log, self._settings, self.table, "window")
            self.log.keep(0)
        self._url = page_url(self._settings, self.table, self.sync.window_start)
        self.is_open.set_result(None)
        try:
            if len(self.log):
                await self._resume(client)
            await self._fetch(client)
        finally:
            for task in self._ahead.values():
                task.cancel()
            await asyncio.gather(*self._ahead.values(), return_exceptions=True)

    async def _take_lock(self) -> None:
        """Wait for the lock. The system releases it when its holder is killed."""
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        for attempt in count():
            try:
                self._lock.acquire(timeout=0)
                return
            except Timeout:
                if attempt == 0:
                    logger.info("another run syncs %s; waiting for it", self.table.name)
                await asyncio.sleep(LOCK_SECONDS)

    async def _fetch(self, client: Client) -> None:
        previous: list[bytes] = []
        is_promised = False
        first, rows, size, reported = 1, 0, 0, time.monotonic()
        for page in count(1):
            if page <= self.sync.resumed_pages:
                body, seen = self._logged(page)
                await asyncio.sleep(0)  # let other readings run
            else:
                self._look_ahead(client, page)
                body, seen = await self._ahead.pop(page)
                self.log.append(body)
            if seen.ids and seen.ids == previous:
                problem = "repeats the page before it: the server seems to ignore 'page'"
                raise UnexpectedAnswer(f"{self._url(page)} {problem}")
            # Without `has_more`, an empty page is the end, unless the page before it promised more.
            has_more = (bool(seen.ids) or is_promised) if seen.has_more is None else seen.has_more
            previous, is_promised = seen.ids, seen.has_more is True
            self.sync.pages, self.sync.rows = page, self.sync.rows + len(seen.ids)
            if not has_more or time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                logger.info(
                    "%s: %s rows read, %s page%s", self.table.name, f"{self.sync.rows:,}", f"{page:,}", "s" * (page > 1)
                )
            rows, size = rows + len(seen.ids), size + len(body)
            if rows >= BATCH_ROWS or size >= BATCH_BYTES or not has_more:
                self._ready.put((range(first, page + 1), not has_more))
                first, rows, size = page + 1, 0, 0
            if not has_more:
                return
            if page >= self._settings.most_pages:
                raise UnexpectedAnswer(f"{self._url(page)} promises another page, more than MOST_PAGES")

    def _look_ahead(self, client: Client, page: int) -> None:
        """Request this page, and those after it that are likely to exist."""
        known = self.sync.known_pages if self.sync.window_start is None else 0
        if page <= known:
            end = min(page + self._settings.read_ahead - 1, known)
        else:
            end = page + min(self._settings.read_ahead, page - known, max(FEWEST_AHEAD, page // 4)) - 1
        for number in range(page, min(end, max(self._last, page)) + 1):
            if number not in self._ahead:
                self._ahead[number] = asyncio.ensure_future(self._page(client, number))

    async def _page(self, client: Client, page: int) -> Page:
        """One page. If it is the last or fails for good, requests for pages after it are cancelled."""
        is_last = True
        try:
            body, seen = await client.get(self._url(page), self.sync, self._look)
            is_last = seen.has_more is False
            # HTTP 204 has no body, but a page in the log needs one.
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
        """Use the pages of the log except the last, if the first, a middle and the last page still have the same rows.

        The last page may have more rows by now. If rows moved on other pages, the next full reading finds them; until
        then no deletions are inferred.
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
            if not (isinstance(fault, UnexpectedAnswer) or fault.status in GONE):  # these mean that the page is gone
                raise
        if resumed:
            logger.info("%s pages of an earlier reading are used: %s", f"{resumed:,}", self._url(last))
            # Else the next window would miss rows created since.
            self.sync.started_at = self.log.started_at - timedelta(seconds=self.sync.clock_ahead or 0)
        self.sync.resumed_pages = resumed
        self.log.keep(resumed)

    @property
    def is_at_hand(self) -> bool:
        """Whether all pages have been read and fit in one batch, so that loading need not wait."""
        return self.has_ended.is_set() and self.sync.rows <= BATCH_ROWS

    def _type_next(self) -> tuple[Typed, bool]:
        """Wait for the pages of the next batch and type them; True if they are the last. Raises the reading's error."""
        pages, is_last = self._ready.get()
        if self._error:
            raise self._error
        bodies = [self.log[page] for page in pages]
        return typed(self._structs, self.table, bodies, pages.start), is_last

    def batch(self) -> tuple[pa.Table | None, bool]:
        """Wait for the next rows, about `BATCH_ROWS` or all that are left; also returns whether there are more.

        None if none of these rows can be read. A reading without any rows ends with a table without rows. Raises the
        error that ended the reading and, for the last rows, `TooFewRows` or `TooManyRejected`.
        """
        (batch, rejected, extra_fields), is_last = self._next.result()
        if not is_last:
            self._next = self._typing.submit(self._type_next)
        self.sync.rejected += rejected
        self.sync.extra_fields |= extra_fields
        self.sync.filled |= {name for name in batch.column_names if batch[name].null_count < batch.num_rows}
        if is_last:
            self.sync.finish()
        self._gave_rows |= batch.num_rows > 0
        return batch if batch.num_rows or (is_last and not self._gave_rows) else None, not is_last
