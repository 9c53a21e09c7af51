"""The warehouse as configured for dlt (`DESTINATION__WAREHOUSE__...`): pipelines, connections, one writer at a time."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
from dlt.destinations.sql_client import SqlClientBase

from analytics_assets.load.changes import Changes, Reading
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.duckdb_file import DuckDbFile, lock_of, locked
from analytics_assets.load.failures import opening
from analytics_assets.settings import CREDENTIALS, KIND, Settings, WrongSetting
from analytics_assets.tables.schema import DATASET


class Warehouse:
    """The warehouse of these settings. Raises `WrongSetting` for a kind that dlt does not know.

    `published_file` is the copy of a DuckDB file, for analysts. On a server they read the warehouse itself, and `file`
    and `published_file` are None.
    """

    def __init__(self, settings: Settings) -> None:
        self.kind = settings.warehouse
        credentials = settings.credentials if isinstance(settings.credentials, str) else None
        self._destination = _destination(self.kind, credentials)
        self._folder, self._memory_limit = settings.dlt_data_dir, settings.duckdb_memory_limit
        self.file: Path | None = None
        self.published_file: Path | None = None
        self._duckdb: DuckDbFile | None = None
        if issubclass(self._destination.spec, DuckDbClientConfiguration):
            given = self._destination.config_params
            if not given["credentials"].database:
                raise WrongSetting(f"{CREDENTIALS} names no DuckDB file; set it to a path")
            self.file = Path(given["local_dir"], given["credentials"].database)
            self.published_file = settings.published_file or self.file.parent / "published.duckdb"
            self._duckdb = DuckDbFile(self.file, settings.duckdb_memory_limit)
            if (mark := self.file.with_name(f"{self.file.name}.sample")).exists():
                raise WrongSetting(f"{self.file} holds sample data of an older version; delete it and {mark}")
            if self.published_file.resolve() == self.file.resolve():
                raise WrongSetting(
                    f"the published copy would replace the warehouse {self.file}; set PUBLISHED_FILE to another path"
                )

    def __str__(self) -> str:
        """Its location without the password."""
        return str(self._destination.configuration(self._destination.spec(), accept_partial=True))

    @contextmanager
    def pipeline(self, name: str) -> Iterator[dlt.Pipeline]:
        """The pipeline `analytics_<name>`, without files of a killed run; the caller holds the lock of that resource.

        Each resource has its own, so that a failed load does not affect the others.
        """
        name, folder = f"{DATASET}_{name}", self._folder / "pipelines"
        if (folder / name).exists():
            shutil.rmtree(folder / name)  # dlt's own `drop` would create the pipeline twice
        try:
            yield dlt.pipeline(name, str(folder), destination=self._destination, dataset_name=DATASET)
        except BaseException:
            shutil.rmtree(folder / name, ignore_errors=True)  # it contains rows
            raise

    @contextmanager
    def changes(self, reading: Reading) -> Iterator[Changes]:
        """The changes of the reading against the rows of the warehouse; the caller holds the lock of that resource."""
        with Changes(reading, self._folder / "compared" / reading.table.name, self._memory_limit) as changes:
            with self.connection() as client:
                changes.look_up(client)
            yield changes

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Admit one process of this machine at a time; others wait. Reentrant.

        Yields a connection to a DuckDB file, None on a server. A server admits several writers, but two that refill the
        same mart at once would fill it twice, and two first loads would both create its tables. On Postgres, processes
        of other machines wait as well.
        """
        if self._duckdb:
            with self._duckdb.writing() as database:
                yield database
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = lock_of(self._folder / "warehouse")
        others = nullcontext() if lock.is_locked else self._without_other_machines()
        with locked(lock, "another run writes to the warehouse"), others:
            yield None

    @contextmanager
    def _without_other_machines(self) -> Iterator[None]:
        """Hold a lock of the server's, in a connection of its own; the server releases it if that ends."""
        with ExitStack() as stack:
            with opening(self.kind):
                client = SqlClient(_client(self._destination, "lock"))
                client.open_connection()
            stack.callback(client.close_connection)
            stack.enter_context(client.begin_transaction())
            client.lock(DATASET)
            yield

    @contextmanager
    def connection(self) -> Iterator[SqlClient]:
        """An SQL client for the warehouse, locked as in `writing`. Raises `Unavailable`."""
        with ExitStack() as stack:
            stack.enter_context(self.writing())
            with opening(self.kind):
                client = _client(self._destination)
                client.open_connection()
            stack.callback(client.close_connection)
            yield SqlClient(client)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Inside, a DuckDB file stays open and locked after its first use, until `release` is called."""
        with self._duckdb.kept_open() if self._duckdb else nullcontext():
            yield

    def release(self, *, for_good: bool = False) -> None:
        """Close a DuckDB file that is kept open; with `for_good`, also after each use from now on."""
        if self._duckdb:
            self._duckdb.release(for_good=for_good)


@lru_cache  # dlt would look the configuration up some twenty times per resource
def _destination(kind: str, credentials: str | None) -> Destination[Any, Any]:
    """dlt's destination with its configuration; dlt looks up the credentials if they are not a text."""
    given = {"credentials": credentials} if credentials else {}
    try:
        destination = dlt.destination(kind, destination_name="warehouse", **given)
    except UnknownDestinationModule:
        raise WrongSetting(f"{KIND} is {kind!r}, and must be one of dlt's, such as duckdb or postgres") from None
    try:
        found = dict(destination.configuration(destination.spec(), accept_partial=True))
    except ConfigurationException:
        if issubclass(destination.spec, DuckDbClientConfiguration):
            raise WrongSetting(f"{CREDENTIALS} cannot be read for {kind}; set it to the path of a file") from None
        return destination  # `connection` reports the error
    known = {name: value for name, value in found.items() if value is not None and not name.startswith("destination_")}
    return dlt.destination(kind, destination_name="warehouse", **known)


@lru_cache
def _client(destination: Destination[Any, Any], purpose: str = "statements") -> SqlClientBase[Any]:
    """dlt's client for this purpose; a client has one connection."""
    client = dlt.dataset(destination, DATASET, dlt.Schema(DATASET)).sql_client
    formats = client.capabilities.supported_loader_file_formats
    if select := client.capabilities.loader_file_format_selector:
        _, formats = select("parquet", formats, table_schema={"name": DATASET})
    if "parquet" not in formats:  # dlt would use a format in which an empty text becomes null
        kind = destination.destination_name
        raise MissingDependencyException(kind, [f"analytics-assets[{kind}]"])
    return client
