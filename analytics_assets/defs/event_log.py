"""Dagster's event log in SQLite, with its files kept open.

`dagster.yaml` names it. A run uses its two files about 550 times; opening them each time would take as long as
everything else that Dagster does for a run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy

from analytics_assets.defs.dagster_private import SqliteEventLogStorage
from analytics_assets.settings import find

BUSY_SECONDS = 30  # to wait while another process writes
OPEN_FILES = 4  # the file that all runs share, and those of the newest runs


class EventLog(SqliteEventLogStorage):
    """The event log in its default folder of the Dagster home."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "EventLog":
        return cls(str(Path(find("DAGSTER_HOME"), "history", "runs")), inst_data)

    @cached_property
    def _engines(self) -> dict[str, sqlalchemy.Engine]:
        """One engine per file, the least recently used first."""
        return {}

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        if shard not in self._initialized_dbs:
            with super()._connect(shard):
                pass  # creates the file
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> sqlalchemy.Engine:
        engine = self._engines.pop(shard, None) or _made(self.conn_string_for_shard(shard))
        self._engines[shard] = engine
        if len(self._engines) > OPEN_FILES:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event and touch its run's file, which the UI watches: SQLite writes to its WAL first."""
        super().store_event(event)
        os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()


def _made(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    # A killed process loses nothing; a crash of the machine loses the last events at most.
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
    return engine
