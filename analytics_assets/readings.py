"""Resources are read in threads, each into its own pipeline, ahead of who loads them.

So the API's latency and the work of the warehouse overlap. Those that refer to others are read at the same time, and
what they refer to after them: so a learner who signs up meanwhile, and registers, is there, if none is tried again.
Nothing bounds how far ahead all this goes: while one is loaded, all that are to come may have been read, and wait as
Parquet files. Each is kept from other runs from when its reading begins until it is loaded; no two runs wait for each
other for ever, since all load in the same order.

How pages are read belongs in `readahead`; what becomes of a resource that has been read, in `assets`.
"""

import gc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from threading import Event
from typing import NamedTuple

import requests
from dlt import Pipeline
from dlt.common.exceptions import TransientException

from analytics_assets import warehouse
from analytics_assets.pagelog import PageLog
from analytics_assets.paging import UnexpectedResponse
from analytics_assets.schema import RESOURCES, Table
from analytics_assets.source import page_log, source
from analytics_assets.sync import Sync


class NotLoaded(Exception):
    """The run has ended before what was read could be loaded."""


# What says nothing against the pages read before it: the API fails or refuses, the warehouse cannot be had just now.
PASSING = (requests.RequestException, UnexpectedResponse, TransientException, warehouse.Unavailable)


class _Begun(NamedTuple):
    """A reading that was asked for: `read` is the pipeline that it fills, to be loaded inside of `reading`."""

    sync: Sync
    reading: AbstractContextManager[Pipeline]
    read: Future[Pipeline]


class Readings:
    """The readings of one run."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}
        self._is_first = True
        self._closing = Event()
        self._threads = ThreadPoolExecutor(len(RESOURCES), thread_name_prefix="reading")

    def due(self, table: Table, of_the_run: list[Table]) -> list[Table]:
        """What is to be begun now that `table` is wanted: at first it and all behind it, later what is tried again."""
        if table.name in self._begun:
            return []
        is_first, self._is_first = self._is_first, False
        return of_the_run[of_the_run.index(table) :] if is_first else [table]

    def begin(self, table: Table, sync: Sync) -> None:
        """Read the table as soon as may be: what is referred to, when all that was begun and refers has been read."""
        reading = _reading(table, sync, self._closing)
        referring = [begun.read for name, begun in self._begun.items() if RESOURCES[name].refers]
        before = [] if table.refers else referring

        def read() -> Pipeline:
            wait(before)
            if self._closing.is_set():
                raise NotLoaded
            return reading.__enter__()

        self._begun[table.name] = _Begun(sync, reading, self._threads.submit(read))

    @contextmanager
    def read(self, table: Table) -> Iterator[tuple[Pipeline, Sync]]:
        """The pipeline that was filled with the table, to be loaded inside; raises what ended the reading."""
        if not self._begun[table.name].read.done():
            warehouse.release()  # nobody is to wait for it while the API is read
        wait([self._begun[table.name].read])  # an interrupt here leaves it to `close`
        sync, reading, read = self._begun.pop(table.name)
        pipeline = read.result()
        with ExitStack() as stack:
            stack.push(reading)
            pipeline.activate()
            yield pipeline, sync

    def close(self) -> None:
        """End what is under way. The pages of what was read are kept for the next time."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        while under_way := [begun for begun in self._begun.values() if not begun.read.done()]:
            for begun in under_way:
                begun.sync.give_up()  # all, and more than once: it may not have got as far as having something to end
            wait([begun.read for begun in under_way], 0.1)
        for _, reading, read in self._begun.values():
            if not (read.cancelled() or read.exception()):
                with suppress(NotLoaded), ExitStack() as stack:
                    stack.push(reading)
                    raise NotLoaded
        self._threads.shutdown()


@contextmanager
def _reading(table: Table, sync: Sync, giving_up: Event) -> Iterator[Pipeline]:
    with warehouse.syncing(table.name, giving_up) as pipeline, _pages_kept(table, giving_up) as log:
        sync.started_at = sync.began_at = datetime.now(UTC)
        if len(log):
            sync.window_start = None  # a reading of the whole that was broken off is gone on with
        with closing(sync):
            pipeline.extract(source(table, sync, log), loader_file_format="parquet")
        pipeline.deactivate()  # in this thread, and not while another loads it
        yield pipeline


@contextmanager
def _pages_kept(table: Table, giving_up: Event) -> Iterator[PageLog]:
    """The log of the pages that are read: gone after the load, empty after an error that they may be to blame for.

    What is raised when somebody has given up is no such error.
    """
    with closing(page_log(table)) as log:
        try:
            yield log
        except Exception as error:
            passing = (isinstance(link, PASSING) or warehouse.is_operational(link) for link in causes(error))
            if not (giving_up.is_set() or any(passing)):
                log.keep(0)
            raise
        log.remove()


@contextmanager
def collecting_less_garbage() -> Iterator[None]:
    """Python's garbage collector runs seldom inside: over millions of rows, none of them garbage, it takes long."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, down to the bottom: dlt wraps what a source raises twice."""
    return [error, *(causes(error.__cause__) if error.__cause__ else [])]
