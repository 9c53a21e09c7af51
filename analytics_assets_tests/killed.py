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

from analytics_assets.__main__ import run
from analytics_assets.defs.checked_settings import checked_settings

CLIENTS = {
    "duckdb": "dlt.destinations.impl.duckdb.sql_client:DuckDbSqlClient.execute_query",
    "postgres": "dlt.destinations.impl.postgres.sql_client:Psycopg2SqlClient.execute_query",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before_statement(pattern: str) -> None:
    owner, function = found(CLIENTS[os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"]])
    execute = getattr(owner, function)

    def deadly(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if re.search(pattern, str(query), re.DOTALL):
            die()
        return execute(self, query, *args, **kwargs)

    setattr(owner, function, deadly)


def kill_before_call(name: str, time: str = "1") -> None:
    owner, function = found(name)
    original, calls = getattr(owner, function), count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == int(time):
            die()
        return original(*args, **kwargs)

    setattr(owner, function, deadly)


def found(name: str) -> tuple[Any, str]:
    """What has the function `module:path`, and the function's name there."""
    module, _, path = name.partition(":")
    *owner, function = path.split(".")
    imported: Any = importlib.import_module(module)
    return attrgetter(".".join(owner))(imported) if owner else imported, function


if __name__ == "__main__":
    kills: dict[str, Callable[..., None]] = {"sql": kill_before_statement, "call": kill_before_call}
    kills[sys.argv[1]](*sys.argv[2:])
    sys.exit(run(checked_settings()))
