"""The six resources as assets: each its own `@dlt_assets` op, which can fail, be retried and be repeated alone."""

import gc
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import requests
from dagster_dlt import DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData
from dlt import Pipeline
from dlt.common.exceptions import TransientException
from pydantic import Field

from analytics_assets import history, ledger, profile, tables, warehouse
from analytics_assets.budget import budget
from analytics_assets.catalog import API_GROUP, asset_spec
from analytics_assets.client import is_transient
from analytics_assets.pagelog import PageLog
from analytics_assets.paging import UnexpectedResponse
from analytics_assets.schema import RESOURCES, Table
from analytics_assets.source import api_name, has_window, page_log, source
from analytics_assets.sync import Sync

logger = logging.getLogger(__name__)


Before = history.Materialization | None


@dataclass
class Translator(DagsterDltTranslator):
    """The one place that says how a resource becomes an asset; Dagster's own would invent an upstream asset."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        table = RESOURCES[data.resource.name]
        spec = asset_spec(table, API_GROUP, "dlt")
        return spec.replace_attributes(description=f"{spec.description} {WINDOWED}") if has_window(table) else spec


WINDOWED = (
    "Between whole syncs (`reconciliation_schedule`) only rows that the API dates since the last sync are read: later "
    "changes of older rows, and deletions, show after the next whole one."
)


class SyncConfig(dg.Config):
    """What a run may be told: to load a resource that has shrunk more than is believed, to read the whole of it."""

    accept_fewer_rows: bool = Field(
        default_factory=lambda: os.environ.get("ACCEPT_FEWER_ROWS") == "true",
        description="Load the resource even if it has shrunk more than SHRINKING_SHARE allows.",
    )
    whole: bool = Field(
        default_factory=lambda: os.environ.get("WHOLE_SYNC") == "true",
        description="Read the whole resource, even where a window of dates would do (API_WINDOW_...).",
    )


@dg.resource(description="Keeps the warehouse open from one step of a run to the next, while no API is read.")
def open_warehouse(_: dg.InitResourceContext) -> Iterator[None]:
    """Where each step is a process of its own, nothing is gained by it."""
    with warehouse.kept_open():
        yield


def _asset(table: Table) -> dg.AssetsDefinition:
    # No pipeline here: making one writes to the disk, and importing must not. Each run makes its own, and a fresh
    # source, since a run changes the schema that a source holds.
    @dlt_assets(
        dlt_source=source(table),
        dlt_pipeline=cast(Pipeline, None),
        name=table.name,
        dagster_dlt_translator=Translator(),
    )
    def load(
        context: dg.AssetExecutionContext, config: SyncConfig, open_warehouse: dg.ResourceParam[None]
    ) -> dg.MaterializeResult[Any]:
        started = time.monotonic()
        with _explained(context, table) as known, warehouse.syncing(table.name) as pipeline:
            with warehouse.connection() as client:
                ledger.refuse_to_mix(client)
                known["held"] = ledger.held(client, table)
                before = history.last_materialization(context.instance, table.name)
                sync = _sync(table, config, ledger.last_sync(client, table), before)
            # dlt's three steps, and not dagster-dlt's one: the warehouse is not to be locked while the API is read,
            # and what has been read is not to be lost while the warehouse is.
            with _pages_kept(table) as log:
                warehouse.release()
                with collecting_less_garbage(), closing(sync):
                    pipeline.extract(source(table, sync, log), loader_file_format="parquet")
                with warehouse.writing():
                    pipeline.normalize()
                    load_id = pipeline.load().loads_ids[0]
                    metadata = _entered(table, sync, before)
        return dg.MaterializeResult(
            asset_key=table.name,
            metadata={**metadata, "seconds": round(time.monotonic() - started, 2), "load_id": load_id},
        )

    return load


def _sync(table: Table, config: SyncConfig, last: ledger.LastSync, before: Before) -> Sync:
    """A sync with the limits that are configured for it, given the last one and what was noted of it."""
    rejected, shrinking = float(os.environ["REJECTED_SHARE"]), float(os.environ["SHRINKING_SHARE"])
    if has_window(table) and not config.whole and (start := _window_start(table, last, before)):
        return Sync(window_start=start, rejected_share=rejected)
    return Sync(
        known_pages=last.pages,
        least_rows=0 if config.accept_fewer_rows else ledger.least_rows(last, shrinking),
        rejected_share=rejected,
    )


def _window_start(table: Table, last: ledger.LastSync, before: Before) -> datetime | None:
    """Where a window has to begin so that nothing is missed since the last sync of this API; None if all is to be read.

    So it is at first, and where a whole reading was broken off: it is gone on with.
    """
    if last.started_at is None or before is None or before.metadata.get("api") != api_name():
        return None
    with closing(page_log(table)) as log:
        return None if len(log) else last.started_at - timedelta(hours=float(os.environ["WINDOW_OVERLAP_HOURS"]))


# What says nothing against the pages read before it: the API fails or refuses, the warehouse cannot be had just now.
PASSING = (requests.RequestException, UnexpectedResponse, TransientException, warehouse.Unavailable)


@contextmanager
def _pages_kept(table: Table) -> Iterator[PageLog]:
    """The log of the pages that are read: gone after the load, empty after an error that they may be to blame for."""
    with closing(page_log(table)) as log:
        try:
            yield log
        except Exception as error:
            if not any(isinstance(link, PASSING) or _is_operational(link) for link in _causes(error)):
                log.keep(0)
            raise
        log.remove()


@contextmanager
def collecting_less_garbage() -> Iterator[None]:
    """Python's garbage collector runs seldom inside: over millions of rows, none of them garbage, it takes long."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _entered(table: Table, sync: Sync, before: Before) -> dict[str, Any]:
    """Enter a sync that has just been loaded into the ledger; what it and the reading say, as metadata."""
    with warehouse.connection() as client:
        counts = ledger.enter(client, table, sync)
        name, shown = tables.full_name(client, table), profile.of(client, table, counts.total)
    metadata = {
        **shown,
        "dagster/row_count": counts.total,
        "rows_in_sync": counts.in_sync,
        "rows_read": sync.rows,
        "rejected_rows": len(sync.rejected),
        "deleted_rows": counts.deleted,
        "pages": sync.pages,
        "resumed_pages": sync.resumed_pages,
        "calls": sync.calls,
        "calls_left": budget().left(),
        "extra_fields": sorted(sync.extra_fields),
        "empty_columns": [name for name in table.fields if name not in sync.filled] if counts.in_sync else [],
        "dagster/table_name": name,
        "api": api_name(),
    }
    return metadata if sync.window_start is None or before is None else metadata | _known(sync, before, metadata)


def _known(sync: Sync, before: history.Materialization, metadata: dict[str, Any]) -> dict[str, Any]:
    """What is known of the whole resource after a window, from what was known before it and what the window added."""
    noted = before.metadata
    return {
        "window_start": dg.MetadataValue.timestamp(cast(datetime, sync.window_start)),
        "rows_known": history.rows_known(before) + metadata["dagster/row_count"] - noted["dagster/row_count"],
        "extra_fields": sorted({*noted["extra_fields"], *sync.extra_fields}),
        "empty_columns": [name for name in noted["empty_columns"] if name not in sync.filled],
    }


@contextmanager
def _explained(context: dg.AssetExecutionContext, table: Table) -> Iterator[dict[str, str]]:
    """Turns an error into a request for another try where that may help, else into a failure a person can act on.

    What the table holds is to be put under `held` as soon as it is known.
    """
    known = {"held": "What the table holds could not be asked."}
    try:
        yield known
    except Exception as error:
        warehouse.release()  # another try waits
        cause, retries = _causes(error)[-1], int(os.environ["SYNC_RETRIES"])
        # Of errors that are not known to be free of learners' data the message is not shown, nor what led to them.
        shown = cause if isinstance(cause, SHOWN) or type(cause).__module__.startswith("analytics_assets.") else None
        hidden = (
            f"{type(cause).__name__} at {_place(cause)} (its message may quote rows; RUNTIME__LOG_LEVEL=ERROR shows it)"
        )
        if _is_operational(cause):
            hidden = f"the warehouse failed or went away: {hidden}"
        text = str(cause) if shown else hidden
        transient = any(
            is_transient(link) or isinstance(link, TransientException) or _is_operational(link)
            for link in _causes(error)
        )
        if transient and context.op_execution_context.retry_number < retries:
            seconds = float(os.environ["SYNC_RETRY_SECONDS"])
            logger.warning("%s: %s; the whole resource is read again in %.0f s", table.name, text, seconds)
            raise dg.RetryRequested(max_retries=retries, seconds_to_wait=seconds) from shown
        when = "later" if transient else "once that is settled"
        what = f"{table.name} was not loaded: {text}. {known['held']} Materialize it again {when}."
        raise dg.Failure(what, {"cause": text}, allow_retries=False) from shown


SHOWN = (requests.RequestException, OSError)


def _is_operational(error: BaseException) -> bool:
    """Whether a database's driver says, in the word that all have for it, that neither statement nor rows are wrong."""
    return any(kind.__name__ == "OperationalError" for kind in type(error).__mro__)


def _place(error: BaseException) -> str:
    """Where in the code it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, down to the bottom: dlt wraps what a source raises twice."""
    return [error, *(_causes(error.__cause__) if error.__cause__ else [])]


assets = [_asset(table) for table in RESOURCES.values()]
