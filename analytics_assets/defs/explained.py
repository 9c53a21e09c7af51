"""Turns an error during the sync of a resource into a retry, or into a failure with a remedy."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dlt.common.exceptions import TransientException

from analytics_assets.extract.faults import Fault
from analytics_assets.load import failures
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.tables.schema import Table

logger = logging.getLogger(__name__)

RETRIES = 1  # of a whole resource, after each of its requests has been retried
RETRY_SECONDS = 10
UNKNOWN = "The contents of the table are unknown."


@contextmanager
def explained(context: dg.AssetExecutionContext, table: Table, warehouse: Warehouse) -> Iterator[dict[str, str]]:
    """Turn an error into a retry request if a retry may help, else into a `dg.Failure` with the remedy.

    Yields a dictionary of texts for the message: `held` says what the table holds, `done` how far the sync came.
    """
    known = {"done": "was not loaded", "held": UNKNOWN}
    try:
        yield known
    except Exception as error:
        cause = _causes(error)[-1]
        went_away = type(cause) is failures.Unavailable and known["held"] != UNKNOWN
        is_transient = went_away or (not failures.remedy(cause) and any(map(_is_transient, _causes(error))))
        # A message that may quote rows is not shown, and neither are its causes.
        shown = cause if isinstance(cause, OSError) or type(cause).__module__.startswith("analytics_assets.") else None
        text = failures.remedy(cause) or (str(cause) if shown else _hidden(cause))
        if is_transient and context.op_execution_context.retry_number < RETRIES:
            warehouse.release(for_good=True)  # Dagster retries after other ops, at an unknown time
            logger.warning("%s: %s; the whole resource is read again in %s s", table.name, text, RETRY_SECONDS)
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from shown
        when = "later" if is_transient else "once that is fixed"
        what = f"{table.name} {known['done']}: {text}. {known['held']} Materialize it again {when}."
        raise dg.Failure(what, {"cause": text}, allow_retries=False) from shown


def spares_pages(error: Exception) -> bool:
    """Whether the pages cannot be the cause: the API refused, the warehouse was unavailable, or the disk was full."""
    passing = (Fault, OSError, TransientException, failures.Unavailable)
    return any(
        isinstance(link, passing) or failures.is_operational(link) or failures.remedy(link) for link in _causes(error)
    )


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, Fault):
        return error.again
    return isinstance(error, TransientException | failures.Overtaken) or failures.is_operational(error)


def _hidden(error: BaseException) -> str:
    """The class and place of the error, without its message."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    text = f"{place} (its message may quote rows; RUNTIME__LOG_LEVEL=ERROR shows it)"
    return f"the warehouse failed or went away: {text}" if failures.is_operational(error) else text


def _causes(error: BaseException) -> list[BaseException]:
    """The error and its causes, the root cause last: dlt wraps a source's error twice."""
    return [error, *(_causes(error.__cause__) if error.__cause__ else [])]
