"""The six resources as assets: each its own `@dlt_assets` op, which can fail, be retried and be repeated alone."""

import gc
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster_dlt import DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData
from dlt import Pipeline
from dlt.common.exceptions import TransientException
from pydantic import Field

from analytics_assets.defs import column_profile, history
from analytics_assets.defs.catalog import API_GROUP, asset_spec
from analytics_assets.extract.api import api_name, has_window
from analytics_assets.extract.budget import budget
from analytics_assets.extract.faults import Fault
from analytics_assets.extract.reader import Reader
from analytics_assets.extract.source import Source
from analytics_assets.load import ledger, statements, warehouse
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

logger = logging.getLogger(__name__)


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


@dg.resource(description="Reads resources while others are loaded, and keeps the warehouse open meanwhile.")
def reader(_: dg.InitResourceContext) -> Iterator[Reader]:
    """One object for the whole run, since all its steps are executed in one process."""
    # Others have the file before readings are ended.
    with _collecting_less_garbage(), closing(Reader()) as reader, warehouse.kept_open():
        yield reader


@contextmanager
def _collecting_less_garbage() -> Iterator[None]:
    """Python's garbage collector runs seldom inside: over millions of rows, none of them garbage, it takes long."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _asset(table: Table) -> dg.AssetsDefinition:
    source = Source(table)

    # No pipeline here: making one writes to the disk, and importing must not.
    @dlt_assets(
        dlt_source=source.dlt,
        dlt_pipeline=cast(Pipeline, None),
        name=table.name,
        op_tags={"dagster/priority": str(int(table.refers))},  # the order in which `reader` reads
        dagster_dlt_translator=Translator(),
    )
    def load(
        context: dg.AssetExecutionContext,
        config: SyncConfig,  # from which Dagster has the schema; `_sync` asks for that of other ops too
        reader: dg.ResourceParam[Reader],
    ) -> dg.MaterializeResult[Any]:
        with _explained(context, table) as known:
            with warehouse.connection() as client:
                ledger.refuse_to_mix(client)
                known["held"] = ledger.held(client, table)
                before = history.last_materialization(context.instance, table.name)
                for due in reader.due(table, _of_the_run(context)):
                    reader.begin(due, _sync(context, due, ledger.last_sync(client, due)))
            if not reader.is_at_hand(table):
                warehouse.release()  # nobody is to wait for it while the API is read, and many rows are typed
            # dlt's three steps, and not dagster-dlt's one, which would lock the warehouse all the while.
            with reader.read(table, _passes) as reading, warehouse.pipeline(table.name) as pipeline:
                with source.of(reading) as batches:
                    pipeline.extract(batches, loader_file_format="parquet")
                with warehouse.writing():
                    pipeline.normalize()
                    load_id = pipeline.load().loads_ids[0]
                    with warehouse.connection() as client:
                        counts = ledger.enter(client, table, reading.sync)
            known |= {"done": "was loaded, but what it holds could not be described", "held": "The rows are there."}
            metadata = _metadata(table, reading.sync, before, counts)
        return dg.MaterializeResult(asset_key=table.name, metadata={**metadata, "load_id": load_id})

    return load


def _of_the_run(context: dg.AssetExecutionContext) -> list[Table]:
    """The resources that the run is to load, in the order in which it will."""
    steps = context.run.step_keys_to_execute  # fewer where a run is repeated from its failure
    names = [node.name for node in context.job_def.nodes_in_topological_order if node.name in RESOURCES]
    due = [RESOURCES[name] for name in names if steps is None or name in steps]
    return sorted(due, key=lambda table: not table.refers)


def _sync(context: dg.AssetExecutionContext, table: Table, last: ledger.LastSync) -> Sync:
    """A sync with the limits that the run has for it, given the last one."""
    # Not the run's own configuration, in which what the job sets by default is missing; nor that of the op that is
    # running, which may be another.
    ops = context.op_execution_context.get_step_execution_context().resolved_run_config.ops
    config = SyncConfig(**cast(dict[str, Any], ops[table.name].config))
    least_rows = ledger.least_rows(last, float(os.environ["SHRINKING_SHARE"]))
    return Sync(
        window_start=None if config.whole else _window_start(context, table, last),
        known_pages=last.pages,
        least_rows=0 if config.accept_fewer_rows else least_rows,
        rejected_share=float(os.environ["REJECTED_SHARE"]),
    )


def _window_start(context: dg.AssetExecutionContext, table: Table, last: ledger.LastSync) -> datetime | None:
    """Where a window has to begin so that nothing is missed since the last sync of this API; None if all is to be read.

    So it is at first.
    """
    before = history.last_materialization(context.instance, table.name) if has_window(table) else None
    if last.started_at is None or before is None or before.metadata.get("api") != api_name():
        return None
    return last.started_at - timedelta(hours=float(os.environ["WINDOW_OVERLAP_HOURS"]))


def _metadata(
    table: Table, sync: Sync, before: history.Materialization | None, counts: ledger.Counts
) -> dict[str, Any]:
    """What there is to say of a sync that has been loaded and entered."""
    with warehouse.connection() as client:
        name, shown = statements.full_name(client, table), column_profile.of(client, table, counts.total)
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
        **_calls_left(),
        "extra_fields": sorted(sync.extra_fields),
        "seconds": round((datetime.now(UTC) - sync.began_at).total_seconds(), 2),
        "empty_columns": [name for name in table.fields if name not in sync.filled] if counts.in_sync else [],
        "dagster/table_name": name,
        "api": api_name(),
    }
    return metadata if sync.window_start is None or before is None else metadata | _known(sync, before, metadata)


def _calls_left() -> dict[str, int]:
    """Nothing where it cannot be asked just now, for which no sync that has been loaded is to fail."""
    try:
        return {"calls_left": budget().left()}
    except Fault as error:
        logger.warning("%s", error)
        return {}


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

    What the table holds is to be put under `held` as soon as it is known, and what has become of it under `done`.
    """
    known = {"done": "was not loaded", "held": "What the table holds could not be asked."}
    try:
        yield known
    except Exception as error:
        cause, retries = _causes(error)[-1], int(os.environ["SYNC_RETRIES"])
        # Of errors that are not known to be free of learners' data the message is not shown, nor what led to them.
        shown = cause if isinstance(cause, OSError) or type(cause).__module__.startswith("analytics_assets.") else None
        hidden = (
            f"{type(cause).__name__} at {_place(cause)} (its message may quote rows; RUNTIME__LOG_LEVEL=ERROR shows it)"
        )
        if warehouse.is_operational(cause):
            hidden = f"the warehouse failed or went away: {hidden}"
        remedy = warehouse.remedy(cause)
        text = remedy or (str(cause) if shown else hidden)
        transient = not remedy and any(
            (isinstance(link, Fault) and link.again)
            or isinstance(link, TransientException)
            or warehouse.is_operational(link)
            for link in _causes(error)
        )
        if transient and context.op_execution_context.retry_number < retries:
            seconds = float(os.environ["SYNC_RETRY_SECONDS"])
            warehouse.release(for_good=True)  # Dagster waits, after other ops, and does not say when
            logger.warning("%s: %s; the whole resource is read again in %.0f s", table.name, text, seconds)
            raise dg.RetryRequested(max_retries=retries, seconds_to_wait=seconds) from shown
        when = "later" if transient else "once that is settled"
        what = f"{table.name} {known['done']}: {text}. {known['held']} Materialize it again {when}."
        raise dg.Failure(what, {"cause": text}, allow_retries=False) from shown


def _passes(error: Exception) -> bool:
    """Whether it says nothing against the pages read: the API refuses, the warehouse is away, the disk is full."""
    passing = (Fault, OSError, TransientException, warehouse.Unavailable)
    return any(
        isinstance(link, passing) or warehouse.is_operational(link) or warehouse.remedy(link) for link in _causes(error)
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, down to the bottom: dlt wraps what a source raises twice."""
    return [error, *(_causes(error.__cause__) if error.__cause__ else [])]


def _place(error: BaseException) -> str:
    """Where in the code it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


assets = [_asset(table) for table in RESOURCES.values()]
