"""`make run` in a process that kills itself at a recorded point.

`python -m analytics_assets_tests.killed sql 'INSERT INTO.*syncs'` is killed before the first such statement, and
`... call dlt:Pipeline.normalize` before that function is called for the first time.
"""

import importlib
import os
import re
import signal
import sys
from collections.abc import Callable
from itertools import count
from operator import attrgetter
from typing import Any

from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from analytics_assets.__main__ import run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before_statement(pattern: str) -> None:
    execute = DuckDbSqlClient.execute_query

    def deadly(self: DuckDbSqlClient, query: Any, *args: Any, **kwargs: Any) -> Any:
        if re.search(pattern, str(query), re.DOTALL):
            die()
        return execute(self, query, *args, **kwargs)

    DuckDbSqlClient.execute_query = deadly  # type: ignore[method-assign]


def kill_before_call(name: str, time: str = "1") -> None:
    module, _, path = name.partition(":")
    *owner, function = path.split(".")
    found: Any = importlib.import_module(module)
    found = attrgetter(".".join(owner))(found) if owner else found
    original, calls = getattr(found, function), count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == int(time):
            die()
        return original(*args, **kwargs)

    setattr(found, function, deadly)


if __name__ == "__main__":
    kills: dict[str, Callable[..., None]] = {"sql": kill_before_statement, "call": kill_before_call}
    kills[sys.argv[1]](*sys.argv[2:])
    sys.exit(run())
