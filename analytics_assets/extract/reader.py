"""All that one run reads: one event loop in one thread, so that the API's latency and the work of loading overlap.

Resources that refer to others are read at the same time, and what they refer to after them: so a learner who signs up
meanwhile, and registers, is there. Each is kept from other runs from when its reading begins until it is loaded; no two
runs wait for each other for ever, since all load in the same order. How pages are read belongs in `reading`.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

import dlt
from filelock import FileLock, Timeout

from analytics_assets.extract import api
from analytics_assets.extract.client import Client
from analytics_assets.extract.reading import GivenUp, Reading
from analytics_assets.extract.sync import Sync
from analytics_assets.extract.threads import in_thread
from analytics_assets.schema import RESOURCES, Table

logger = logging.getLogger(__name__)

LOCK_SECONDS = 0.1  # between two looks whether another run has ended


class _Begun(NamedTuple):
    """The reading as soon as it is under way, the lock that it holds, and the task that fetches it."""

    reading: "Future[Reading]"
    lock: FileLock
    task: "asyncio.Task[None]"


class _Running(NamedTuple):
    """The event loop that reads, what ends it, and the client in it."""

    loop: asyncio.AbstractEventLoop
    task: "asyncio.Task[None]"
    client: Client


class Reader:
    """The readings of one run."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}
        self._is_first = True
        self._running: Future[_Running] = Future()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def due(self, table: Table, of_the_run: list[Table]) -> list[Table]:
        """What is to be begun now that `table` is wanted: at first it and all behind it, later what is tried again."""
        if table.name in self._begun:
            return []
        is_first, self._is_first = self._is_first, False
        return of_the_run[of_the_run.index(table) :] if is_first else [table]

    def begin(self, table: Table, sync: Sync) -> None:
        """Read the table as soon as may be: what is referred to, when all that was begun and refers has been read."""
        if self._thread.ident is None:
            self._thread.start()
        loop = self._running.result().loop
        self._begun[table.name] = asyncio.run_coroutine_threadsafe(self._begin(table, sync), loop).result()

    def has_read(self, table: Table) -> bool:
        """Whether nobody has to wait for a table that was begun: for other resources, another run or the API."""
        return self._begun[table.name].task.done()

    @contextmanager
    def read(self, table: Table, passes: Callable[[Exception], bool] = lambda _: False) -> Iterator[Reading]:
        """The reading of a table that was begun; its batches are to be loaded inside, then its pages are gone.

        They are dropped after an error that they may be to blame for, but kept for the next time if it `passes`.
        """
        begun = self._begun[table.name]
        try:
            reading = begun.reading.result()  # an interrupt here leaves it to `close`
        except Exception:
            del self._begun[table.name]
            raise
        del self._begun[table.name]
        try:
            yield reading
            reading.log.remove()
        except Exception as error:
            self._end(begun, reading)
            if not (isinstance(error, GivenUp) or passes(error)):
                reading.log.keep(0)
            raise
        finally:
            self._end(begun, reading)
            reading.log.close()
            begun.lock.release()

    def close(self) -> None:
        """End what is under way, whatever it waits for. The pages that were read are kept for the next time."""
        if self._thread.ident is None:
            return
        if not self._running.exception():
            loop, task, _ = self._running.result()
            with suppress(RuntimeError):  # the loop has ended: it was closed before
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join()
        for reading, lock, _ in self._begun.values():
            if not reading.exception():
                reading.result().log.close()
            lock.release()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass  # by `close`
        except BaseException as error:
            self._running.set_exception(error)

    async def _serve(self) -> None:
        """Keep the loop and its client until it is cancelled, and end what it reads."""
        current = asyncio.current_task()
        assert current
        async with Client(dlt.config["api_base_url"], int(os.environ["READ_AHEAD"])) as client:
            self._running.set_result(_Running(asyncio.get_running_loop(), current, client))
            try:
                await asyncio.Event().wait()
            finally:
                others = asyncio.all_tasks() - {current}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

    async def _begin(self, table: Table, sync: Sync) -> _Begun:
        reading: Future[Reading] = Future()
        # One thread takes it, another gives it back.
        lock = FileLock(Path(os.environ["DLT_DATA_DIR"]) / f"{table.name}.lock", thread_local=False)
        before = [] if table.refers else [b.task for name, b in self._begun.items() if RESOURCES[name].refers]
        return _Begun(reading, lock, asyncio.create_task(self._read(table, sync, reading, lock, before)))

    async def _read(
        self, table: Table, sync: Sync, reading: "Future[Reading]", lock: FileLock, before: "list[asyncio.Task[None]]"
    ) -> None:
        try:
            if before:
                await asyncio.wait(before)
            await _take(lock, table.name)
            sync.started_at = sync.began_at = datetime.now(UTC)
            pages = await in_thread(api.reading, table, sync)
        except BaseException as error:
            lock.release()
            given_up = GivenUp(f"{table.name} was not read, since the run has ended")
            reading.set_exception(given_up if isinstance(error, asyncio.CancelledError) else error)
            return
        reading.set_result(pages)
        await pages.fetch(self._running.result().client)

    def _end(self, begun: _Begun, reading: Reading) -> None:
        """See to it that nothing is added to the log any more."""
        if not reading.has_ended.is_set():
            self._running.result().loop.call_soon_threadsafe(begun.task.cancel)
            reading.has_ended.wait()


async def _take(lock: FileLock, name: str) -> None:
    """Wait for a lock that is freed at once when its holder is killed."""
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    for attempt in count():
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            if attempt == 0:
                logger.info("another run syncs %s; waiting for it", name)
            await asyncio.sleep(LOCK_SECONDS)
