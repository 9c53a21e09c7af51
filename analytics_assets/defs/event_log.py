"""Where Dagster keeps its events: its own SQLite files, which stay open while they are in use.

Named in `dagster.yaml`. A run asks its two files some 550 times; to open and close them each time takes as long as
all else that Dagster does for a run.
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

BUSY_SECONDS = 30  # for another process that writes
OPEN_FILES = 4  # one that all runs share, and those of the newest runs


class EventLog(SqliteEventLogStorage):
    """Dagster's event log, in the folder that it has in the Dagster home by default."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "EventLog":
        return cls(str(Path(os.environ["DAGSTER_HOME"], "history", "runs")), inst_data)

    @cached_property
    def _engines(self) -> dict[str, sqlalchemy.Engine]:
        """By file, the one used last at the end."""
        return {}

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        if shard not in self._initialized_dbs:
            with super()._connect(shard):
                pass  # makes the file
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> sqlalchemy.Engine:
        engine = self._engines.pop(shard, None) or _made(self.conn_string_for_shard(shard))
        self._engines[shard] = engine
        if len(self._engines) > OPEN_FILES:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event, and touch its run's file: the UI follows a run by that, and SQLite writes beside it first."""
        super().store_event(event)
        os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()


def _made(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    # Nothing is lost when a process is killed; when the machine is, at most the last events are.
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
    return engine
