"""Reads all resources of a run: one event loop in one thread, so that waiting for the API and loading overlap.

Resources that refer to others are read at the same time, and the others after them. So the learner of a new
registration is always found, even if both were created during the sync. A resource is locked for other runs from the
start of its reading until it is loaded. All runs load in the same order, so two runs cannot deadlock. `reading` reads
the pages.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress

from analytics_assets.extract.client import Client
from analytics_assets.extract.reading import Reading
from analytics_assets.settings import Settings
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

Loop = asyncio.AbstractEventLoop


class Reader:
    """The readings of one run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begun: dict[str, Reading] = {}
        self._is_first = True
        self._serving: Future[tuple[Loop, asyncio.Task[None], Client]] = Future()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def due(self, table: Table, of_the_run: list[Table]) -> list[Table]:
        """The tables to begin before `table` is loaded: first it and all after it, later only a retried one."""
        if table.name in self._begun:
            return []
        is_first, self._is_first = self._is_first, False
        return of_the_run[of_the_run.index(table) :] if is_first else [table]

    def begin(self, table: Table, sync: Sync) -> None:
        """Start reading the table: at once if it refers to others, else after the tables that do."""
        if self._thread.ident is None:
            self._thread.start()
        loop, _, client = self._serving.result()
        before = [] if table.refers else [reading for reading in self._begun.values() if reading.table.refers]
        self._begun[table.name] = reading = Reading(table, sync, self._settings)
        loop.call_soon_threadsafe(reading.begin, client, before)

    def has_lock(self, table: Table) -> bool:
        """Whether the run has the lock of the table, so that `read` need not wait for another run."""
        return self._begun[table.name].is_open.done()

    @contextmanager
    def read(self, table: Table, spares_pages: Callable[[Exception], bool] = lambda _: False) -> Iterator[Reading]:
        """The reading of a table that was begun. Load its batches inside; after that its pages are removed.

        After an error, the pages are kept for the next sync if `spares_pages(error)`, and else removed, since they may
        be its cause.
        """
        reading, is_kept = self._begun[table.name], True
        wait([reading.is_open])  # if this is interrupted, `close` ends the reading
        del self._begun[table.name]
        try:
            reading.is_open.result()
            yield reading
            is_kept = False
            reading.note_loaded()
        except Exception as error:
            is_kept = spares_pages(error)
            raise
        finally:
            if not reading.has_ended.is_set():
                self._serving.result()[0].call_soon_threadsafe(reading.end)
                reading.has_ended.wait()
            reading.close(is_kept)

    def close(self) -> None:
        """End all readings at once. The pages that were read are kept for the next sync."""
        if self._thread.ident is None:
            return
        if not self._serving.exception():
            loop, task, _ = self._serving.result()
            with suppress(RuntimeError):  # the loop has ended: it was closed before
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join()
        for reading in self._begun.values():
            reading.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass  # by `close`
        except BaseException as error:
            if self._serving.done():
                raise  # no reading can report it any more; `threading` prints it
            self._serving.set_exception(error)

    async def _serve(self) -> None:
        """Run the loop with its client until cancelled, then end all readings."""
        current = asyncio.current_task()
        assert current
        async with Client(self._settings) as client:
            self._serving.set_result((asyncio.get_running_loop(), current, client))
            try:
                await asyncio.Event().wait()
            finally:
                others = asyncio.all_tasks() - {current}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
