"""A DuckDB file, which only one process at a time can open: its lock, opening it, and keeping it open."""

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import duckdb
from filelock import BaseFileLock, FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception_message, stop_after_delay, wait_fixed

from analytics_assets.load.failures import WarehouseOpen, interrupts_heard, opening

logger = logging.getLogger(__name__)

WAIT_SECONDS = 600.0  # while another program has the file open


@contextmanager
def locked(lock: BaseFileLock, why: str) -> Iterator[None]:
    """Hold a lock, which the system releases if the process is killed."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s; waiting for it", why)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_of(file: Path) -> FileLock:
    """The lock file beside `file`: one object per process, so that it knows whether the process holds it."""
    return FileLock(f"{file}.lock", is_singleton=True)


class DuckDbFile:
    """The file of a warehouse; `memory_limit` is the limit of DuckDB's memory."""

    def __init__(self, file: Path, memory_limit: str) -> None:
        self.path = file
        self._memory_limit = memory_limit
        self._kept: list[ExitStack] = []  # keep the file open between uses

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection, with the file locked for other processes; reentrant."""
        with ExitStack() as stack:
            stack.enter_context(interrupts_heard())
            if not lock_of(self.path).is_locked:
                (self._kept[-1] if self._kept else stack).enter_context(self._held())
            yield stack.enter_context(duckdb.connect(str(self.path)))

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Inside, the file stays locked and open after its first use, until `release` is called."""
        with ExitStack() as stack:
            self._kept.append(stack)
            try:
                yield
            finally:
                if stack in self._kept:
                    self._kept.remove(stack)

    def release(self, *, for_good: bool = False) -> None:
        """Close the file if it is kept open, so that other processes can use it; call this before slow work.

        With `for_good`, it is closed after each use from now on.
        """
        for stack in self._kept:
            stack.close()
        if for_good:
            self._kept.clear()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep the file locked and open: opening it takes 15 ms, and no time while it is open."""
        with opening("duckdb"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_of(self.path), f"another run writes to {self.path}"):
            with opening("duckdb"):
                database = self._opened()
            with database:
                # Also applies to dlt's connections. DuckDB's default is most of the machine's memory.
                database.execute(f"SET GLOBAL memory_limit = '{self._memory_limit}'")
                yield

    def _opened(self) -> duckdb.DuckDBPyConnection:
        """Connect once no other program has the file open. Raises `WarehouseOpen` after `WAIT_SECONDS`."""

        def problem(state: RetryCallState) -> str:
            holder = re.search(r"held in (.+? \(PID \d+\))", str(state.outcome and state.outcome.exception()))
            return f"{self.path} is open in {holder[1] if holder else 'another program'}"

        def warn(state: RetryCallState) -> None:
            if state.attempt_number == 1:
                logger.warning("%s; waiting up to %.0f s for it", problem(state), WAIT_SECONDS)

        def give_up(state: RetryCallState) -> NoReturn:
            raise WarehouseOpen(f"{problem(state)}; close it there, or let readers use the published copy") from None

        retrying = Retrying(
            retry=retry_if_exception_message(match=r".*Could not set lock on file"),
            stop=stop_after_delay(WAIT_SECONDS),
            wait=wait_fixed(5),
            before_sleep=warn,
            retry_error_callback=give_up,
        )
        return retrying(duckdb.connect, str(self.path))
