"""Errors of the warehouse: whether a retry may help, and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.exceptions import MissingDependencyException

from analytics_assets.settings import CREDENTIALS


class Unavailable(Exception):
    """The warehouse cannot be opened; the message says why and what to do."""


class WarehouseOpen(Unavailable):
    """Another program has the DuckDB file open."""


class Overtaken(Exception):
    """Another sync of the same resource was loaded in the meantime; reading again helps."""


@contextmanager
def opening(kind: str) -> Iterator[None]:
    """Turn an error on opening a warehouse of this kind into `Unavailable`, without text that may hold the password."""
    try:
        yield
    except Unavailable:
        raise
    except (ImportError, MissingDependencyException):
        raise Unavailable(
            f"the drivers for {kind} are not installed: python -m pip install -c constraints.txt -e '.[{kind}]'"
        ) from None
    except ConfigurationException:
        raise Unavailable(
            f"{CREDENTIALS} is not set, or cannot be read for {kind}; see .env.example for its form"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Unavailable(
            f"the warehouse cannot be opened: {reason}; check {CREDENTIALS}, and whether the warehouse runs"
        ) from None


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """Raise KeyboardInterrupt if DuckDB was interrupted during a query; DuckDB itself raises an ordinary error."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link:
            if isinstance(link, RuntimeError) and str(link) == "Query interrupted":
                raise KeyboardInterrupt from None
            link = link.__cause__
        raise


def is_operational(error: BaseException) -> bool:
    """Whether a driver blames neither the statement nor the rows; all drivers use the same class name for that.

    Running out of memory does not count: a retry would run out of it again.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OperationalError" in names and not isinstance(error, duckdb.OutOfMemoryException)


def remedy(error: BaseException) -> str | None:
    """The cause and the remedy, if the error's own message does not name them."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return "DuckDB needs more memory than DUCKDB_MEMORY_LIMIT allows; set it higher"
    return None
