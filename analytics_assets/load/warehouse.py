"""The warehouse: a pipeline a resource into one named destination, connections to it, and one writer at a time.

Which warehouse it is, dlt's configuration says (`DESTINATION__WAREHOUSE__...`); nothing here depends on it but that a
DuckDB file takes one process at a time.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import dlt
import duckdb
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
from dlt.destinations.sql_client import SqlClientBase
from filelock import BaseFileLock, FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception_message, stop_after_delay, wait_fixed

from analytics_assets.load.dialect import SqlClient
from analytics_assets.settings import SAMPLE, WrongSetting
from analytics_assets.tables.schema import DATASET

logger = logging.getLogger(__name__)

DESTINATION = ("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "DESTINATION__WAREHOUSE__CREDENTIALS")


@contextmanager
def pipeline(name: str) -> Iterator[dlt.Pipeline]:
    """The pipeline `analytics_<name>`, emptied: to be entered with the resource's reading, whose lock keeps others out.

    Each resource has its own, so that one broken load holds up no other. What a killed run left in it is gone.
    """
    name, folder = f"{DATASET}_{name}", Path(os.environ["DLT_DATA_DIR"]) / "pipelines"
    if (folder / name).exists():
        shutil.rmtree(folder / name)  # dlt's own `drop` would make the pipeline twice
    try:
        yield dlt.pipeline(name, str(folder), destination=_destination(), dataset_name=DATASET)
    except BaseException:
        shutil.rmtree(folder / name, ignore_errors=True)  # there are rows in it
        raise


@contextmanager
def _locked(lock: BaseFileLock, why: str) -> Iterator[None]:
    """Holds a lock that is freed at once when its holder is killed."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s; waiting for it", why)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(file: Path) -> FileLock:
    """The one object that this process has for it, which knows whether it holds it."""
    return FileLock(file, is_singleton=True)


def _lock_file(file: Path) -> Path:
    return Path(f"{file}.lock")


def _destination() -> Destination[Any, Any]:
    """dlt's destination, with its whole configuration looked up: dlt itself would do so some twenty times per resource.

    Raises `WrongSetting` for a kind of warehouse that dlt does not know.
    """
    return _configured(*map(os.environ.get, (*DESTINATION, "DLT_LOCAL_DIR")))


@lru_cache
def _configured(kind: str, *_: str | None) -> Destination[Any, Any]:
    try:
        destination = dlt.destination("warehouse")
    except UnknownDestinationModule:
        raise WrongSetting(f"{DESTINATION[0]} is {kind!r}, which dlt does not know") from None
    try:
        found = dict(destination.configuration(destination.spec(), accept_partial=True))
    except ConfigurationException:
        if issubclass(destination.spec, DuckDbClientConfiguration):
            raise
        return destination  # `connection` says what cannot be read
    known = {name: value for name, value in found.items() if value is not None and not name.startswith("destination_")}
    return dlt.destination("warehouse", **known)


def database_file() -> Path | None:
    """The DuckDB file; None where the warehouse is a server."""
    destination = _destination()
    if not issubclass(destination.spec, DuckDbClientConfiguration):
        return None
    return Path(os.environ["DLT_LOCAL_DIR"]) / str(destination.config_params["credentials"].database)


def published_file() -> Path | None:
    """The DuckDB file that analysts read; None where the warehouse is a server, which they read itself.

    Raises `SameFile` where that is the warehouse's own.
    """
    file = database_file()
    if file is None:
        return None
    published = file.parent / "published.duckdb"
    if given := os.environ.get("PUBLISHED_FILE"):
        published = Path(os.environ["DLT_LOCAL_DIR"]) / given
    if published.resolve() == file.resolve():
        raise SameFile(f"the published copy would replace the warehouse {file}; set PUBLISHED_FILE to another path")
    return published


def address() -> str:
    """Where the warehouse is, for people: without its password."""
    destination = _destination()
    return str(destination.configuration(destination.spec(), accept_partial=True))


class SameFile(Exception):
    """The published copy and the warehouse would be the same file."""


@contextmanager
def writing() -> Iterator[duckdb.DuckDBPyConnection | None]:
    """Admits one process of this machine at a time to the warehouse, waiting for it; may be entered again inside.

    Of a DuckDB file it gives a connection; None where the warehouse is a server. That takes several, but two that fill
    one mart at once fill it twice, and two first loads both make its tables.
    """
    file = database_file()
    if file is None:
        folder = Path(os.environ["DLT_DATA_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(_lock(folder / "warehouse.lock"), "another run writes to the warehouse"):
            yield None
        return
    with ExitStack() as stack:
        stack.enter_context(_interrupts_heard())
        if not _lock(_lock_file(file)).is_locked:
            (_kept[-1] if _kept else stack).enter_context(_held(file))
        yield stack.enter_context(duckdb.connect(str(file)))


@contextmanager
def _interrupts_heard() -> Iterator[None]:
    """DuckDB makes an error like any other of an interrupt that comes during a query; it is to end the run."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link:
            if isinstance(link, RuntimeError) and str(link) == "Query interrupted":
                raise KeyboardInterrupt from None
            link = link.__cause__
        raise


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Holds the file, locked and open: to open it again inside takes no time, where to open it takes 15 ms."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(_lock(_lock_file(file)), f"another run writes to {file}"):
        _move_sample_data_aside(file)
        with _opened(file) as database:
            # For dlt's connections too. The default, most of the machine's memory, is used before anything is spilled.
            database.execute(f"SET GLOBAL memory_limit = '{os.environ['DUCKDB_MEMORY_LIMIT']}'")
            _refuse_to_mix(file, database)
            yield


_kept: list[ExitStack] = []  # what holds the file from one use to the next


@contextmanager
def kept_open() -> Iterator[None]:
    """Inside, the file stays locked and open once it has been opened, until somebody calls `release`."""
    with ExitStack() as stack:
        _kept.append(stack)
        try:
            yield
        finally:
            if stack in _kept:
                _kept.remove(stack)


def release(*, for_good: bool = False) -> None:
    """Let others have the file, if it is kept open: to be called before anything that takes long.

    Where it is not known when that begins, `for_good`: from here on it is closed after each use.
    """
    for stack in _kept:
        stack.close()
    if for_good:
        _kept.clear()


class MixedData(Exception):
    """Sample data would come into a warehouse of real data."""


def _sample_mark(file: Path) -> Path:
    """The file that says that the warehouse beside it holds sample data."""
    return file.with_name(f"{file.name}.sample")


def _move_sample_data_aside(file: Path) -> None:
    mark = _sample_mark(file)
    if SAMPLE not in os.environ and mark.exists():
        if file.exists():
            aside = file.replace(file.with_name(f"sample-{file.name}"))
            logger.info("the sample data was moved to %s; its published copy is removed", aside)
        if published := published_file():
            published.unlink(missing_ok=True)
        mark.unlink()


def _refuse_to_mix(file: Path, database: duckdb.DuckDBPyConnection) -> None:
    mark = _sample_mark(file)
    if SAMPLE in os.environ and not mark.exists():
        if database.execute("SELECT 1 FROM information_schema.tables LIMIT 1").fetchone():
            raise MixedData(
                f"{file} holds data of a real API, and the sample API's would mix with it; set API_KEY and API_BASE_URL"
                " in .env, or move the file away"
            )
        mark.touch()


def _opened(file: Path) -> duckdb.DuckDBPyConnection:
    """A connection to the file, waiting as long as `WAREHOUSE_WAIT_SECONDS` for another program that has it open.

    Raises `WarehouseOpen` where that was not enough.
    """

    seconds = float(os.environ["WAREHOUSE_WAIT_SECONDS"])

    def open_in(state: RetryCallState) -> str:
        holder = re.search(r"held in (.+? \(PID \d+\))", str(state.outcome and state.outcome.exception()))
        return f"{file} is open in {holder[1] if holder else 'another program'}"

    def waits(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            logger.warning("%s; waiting up to %.0f s for it", open_in(state), seconds)

    def gives_up(state: RetryCallState) -> NoReturn:
        raise WarehouseOpen(f"{open_in(state)}; close it there, or let readers use the published copy") from None

    locked = retry_if_exception_message(match=r".*Could not set lock on file")
    retrying = Retrying(
        retry=locked,
        stop=stop_after_delay(seconds),
        wait=wait_fixed(5),
        before_sleep=waits,
        retry_error_callback=gives_up,
    )
    return retrying(duckdb.connect, str(file))


class Unavailable(Exception):
    """The warehouse cannot be had; the message says why, and what to do."""


class WarehouseOpen(Unavailable):
    """Another program has the DuckDB file open."""


@contextmanager
def connection() -> Iterator[SqlClient]:
    """An SQL client for the warehouse. Raises `Unavailable`."""
    with ExitStack() as stack:
        stack.enter_context(writing())
        with _explained():
            client = _client(*map(os.environ.get, DESTINATION))
            client.open_connection()
        stack.callback(client.close_connection)
        yield SqlClient(client)


@lru_cache  # as above; each use opens a connection of its own
def _client(kind: str, _: str | None) -> SqlClientBase[Any]:
    client = dlt.dataset(_destination(), DATASET, dlt.Schema(DATASET)).sql_client
    formats = client.capabilities.supported_loader_file_formats
    if select := client.capabilities.loader_file_format_selector:
        _, formats = select("parquet", formats, table_schema={"name": DATASET})
    if "parquet" not in formats:  # and dlt would load texts in a form that has no empty ones
        raise MissingDependencyException(kind, [f"analytics-assets[{kind}]"])
    return client


@contextmanager
def _explained() -> Iterator[None]:
    """Says of an error inside what to do; nothing is shown that may hold the password."""
    kind, name = (os.environ[DESTINATION[0]], DESTINATION[1])
    try:
        yield
    except (ImportError, MissingDependencyException):
        raise Unavailable(
            f"the drivers for {kind} are not installed: python -m pip install -c constraints.txt -e '.[{kind}]'"
        ) from None
    except ConfigurationException:
        raise Unavailable(f"{name} is not set, or cannot be read for {kind}; see .env.example for its form") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Unavailable(f"the warehouse cannot be opened: {reason}; check {name}, and whether it runs") from None


def is_operational(error: BaseException) -> bool:
    """Whether a database's driver says, in the word that all have for it, that neither statement nor rows are wrong.

    Memory that is used up is used up again with the next try.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OperationalError" in names and not isinstance(error, duckdb.OutOfMemoryException)


def remedy(error: BaseException) -> str | None:
    """What happened and what to do, of an error whose own message does not say so."""
    if isinstance(error, duckdb.OutOfMemoryException):
        limit = os.environ["DUCKDB_MEMORY_LIMIT"]
        return f"DuckDB needs more memory than DUCKDB_MEMORY_LIMIT allows it ({limit}); set it higher"
    return None
