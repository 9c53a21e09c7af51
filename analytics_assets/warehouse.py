"""The warehouse: a pipeline a resource into one named destination, connections to it, and one writer at a time.

Which warehouse it is, dlt's configuration says (`DESTINATION__WAREHOUSE__...`); nothing here depends on it but that a
DuckDB file takes one process at a time.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import dlt
import duckdb
from dlt.common.destination.dataset import DBApiCursor
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.destinations.sql_client import SqlClientBase
from filelock import FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception_message, stop_after_delay, wait_fixed

from analytics_assets import dialect
from analytics_assets.environment import SAMPLE

logger = logging.getLogger(__name__)

DATASET = "analytics"
DESTINATION = ("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "DESTINATION__WAREHOUSE__CREDENTIALS")


class SqlClient:
    """dlt's SQL client for the warehouse; but it takes DuckDB's SQL, with `?` for a parameter, whatever that speaks.

    It stands in the dataset: table names need no qualifying.
    """

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client

    def execute_sql(self, text: str, *parameters: Any) -> Sequence[Sequence[Any]] | None:
        """The rows that the last of the statements in `text` gives; None for one that gives none."""
        *first, last = self._translated(text)
        if first:
            self._client.execute_many(first)
        return self._client.execute_sql(last, *parameters)

    def execute_query(self, text: str) -> AbstractContextManager[DBApiCursor]:
        """A cursor of the database's driver over what one statement gives."""
        [statement] = self._translated(text)
        return self._client.execute_query(statement)

    def begin_transaction(self) -> AbstractContextManager[Any]:
        """A transaction; nothing where the warehouse makes no tables in one, as BigQuery and Databricks do not."""
        can = self._client.capabilities.supports_ddl_transactions
        return self._client.begin_transaction() if can else nullcontext()

    def _translated(self, text: str) -> Sequence[str]:
        own = self._client.capabilities
        return dialect.translated(text, own.sqlglot_dialect, own.casefold_identifier)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@contextmanager
def syncing(name: str) -> Iterator[dlt.Pipeline]:
    """The pipeline `analytics_<name>`, emptied, for one process at a time: two on one pipeline get in each other's way.

    Each resource has its own, so that one broken load holds up no other. What a killed run left in it is gone.
    """
    folder = Path(os.environ["DLT_DATA_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{name}.lock", f"another run syncs {name}"):
        name, pipelines = f"{DATASET}_{name}", folder / "pipelines"
        if (pipelines / name).exists():
            shutil.rmtree(pipelines / name)  # dlt's own `drop` would make the pipeline twice
        yield dlt.pipeline(name, str(pipelines), destination=dlt.destination("warehouse"), dataset_name=DATASET)


@contextmanager
def _locked(file: Path, why: str) -> Iterator[None]:
    """Holds a lock that is freed at once when its holder is killed; may be entered again inside."""
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s; waiting for it", why)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def database_file() -> Path | None:
    """The DuckDB file; None where the warehouse is a server."""
    return _database_file(*map(os.environ.get, DESTINATION))


@lru_cache  # dlt takes 20 ms to resolve its configuration, and this is asked some twenty times a run
def _database_file(*_: str | None) -> Path | None:
    destination = dlt.destination("warehouse")
    # Not asked of a pipeline: making one writes to its folder, and this is asked before the lock is held.
    credentials = destination.configuration(destination.spec(), accept_partial=True).credentials
    if not isinstance(credentials, DuckDbCredentials):
        return None
    return Path(os.environ["DLT_LOCAL_DIR"]) / credentials.database


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


class SameFile(Exception):
    """The published copy and the warehouse would be the same file."""


@contextmanager
def writing() -> Iterator[duckdb.DuckDBPyConnection | None]:
    """Admits one process at a time to a DuckDB file, waiting for it; may be entered again inside.

    Gives a connection to the file, which stays open inside, since opening it takes longer than most of what is done
    with it; None where the warehouse is a server.
    """
    file = database_file()
    if file is None:
        yield None
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(Path(f"{file}.lock"), f"another run writes to {file}"):
        _move_sample_data_aside(file)
        with _opened(file) as database:
            # For dlt's connections too. The default, most of the machine's memory, is used before anything is spilled.
            database.execute(f"SET GLOBAL memory_limit = '{os.environ['DUCKDB_MEMORY_LIMIT']}'")
            _refuse_to_mix(file, database)
            yield database


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


class WarehouseOpen(Exception):
    """Another program has the DuckDB file open."""


@contextmanager
def connection() -> Iterator[SqlClient]:
    """An SQL client for the warehouse."""
    with writing(), _client(*map(os.environ.get, DESTINATION)) as client:
        yield SqlClient(client)


@lru_cache  # as above; each use opens a connection of its own
def _client(*_: str | None) -> SqlClientBase[Any]:
    return dlt.dataset(dlt.destination("warehouse"), DATASET, dlt.Schema(DATASET)).sql_client
