"""The six resources as assets: each its own `@dlt_assets` op, which can fail, be retried and be repeated alone."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
from dagster_dlt import DagsterDltResource, DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData
from dlt import Pipeline
from pydantic import Field

from analytics_assets import history, ledger, warehouse
from analytics_assets.batches import Sync
from analytics_assets.catalog import API_GROUP, asset_spec
from analytics_assets.client import is_transient
from analytics_assets.schema import RESOURCES, Table
from analytics_assets.source import source

logger = logging.getLogger(__name__)
# dagster-dlt calls dlt by a name that dlt is about to drop; nothing here can change that.
warnings.filterwarnings("ignore", message="drop_pending_packages is deprecated")


@dataclass
class Translator(DagsterDltTranslator):
    """The one place that says how a resource becomes an asset; Dagster's own would invent an upstream asset."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        return asset_spec(RESOURCES[data.resource.name], API_GROUP, "dlt")


class SyncConfig(dg.Config):
    """What a run may be told: `accept_fewer_rows` loads a resource that has shrunk more than is believed."""

    accept_fewer_rows: bool = Field(
        default_factory=lambda: os.environ.get("ACCEPT_FEWER_ROWS") == "true",
        description="Load the resource even if it has shrunk more than SHRINKING_SHARE allows.",
    )


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
        context: dg.AssetExecutionContext, config: SyncConfig, dlt: DagsterDltResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        started = time.monotonic()
        with _explained(context, table), warehouse.writing():
            pipeline = warehouse.pipeline(table.name)
            sync = _sync(table, pipeline, config)
            for result in dlt.run(context, source(table, sync), pipeline, loader_file_format="parquet"):
                assert isinstance(result, dg.MaterializeResult)
                metadata = _entered(table, sync, pipeline)
                metadata["seconds"] = round(time.monotonic() - started, 2)
                yield result._replace(metadata=metadata)

    return load


def _sync(table: Table, pipeline: Pipeline, config: SyncConfig) -> Sync:
    """A sync with the limits that are configured for it."""
    sync = Sync(rejected_share=float(os.environ["REJECTED_SHARE"]))
    if not config.accept_fewer_rows:
        with warehouse.connection(pipeline) as client:
            sync.least_rows = ledger.least_rows(client, table, float(os.environ["SHRINKING_SHARE"]))
    return sync


def _entered(table: Table, sync: Sync, pipeline: Pipeline) -> dict[str, Any]:
    """Enter a sync that has just been loaded into the ledger; what it and the reading say, as metadata."""
    with warehouse.connection(pipeline) as client:
        counts = ledger.enter(client, table, sync)
        name = warehouse.full_name(client, table)
    return {
        "dagster/row_count": counts.total,
        "rows_in_sync": counts.in_sync,
        "rejected_rows": len(sync.rejected),
        "deleted_rows": counts.deleted,
        "pages": sync.pages,
        "calls": sync.calls,
        "load_id": warehouse.load_id(pipeline),
        "extra_fields": sorted(sync.extra_fields),
        "dagster/table_name": name,
    }


@contextmanager
def _explained(context: dg.AssetExecutionContext, table: Table) -> Iterator[None]:
    """Turns an error into a request for another try where that may help, else into a failure a person can act on."""
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        retries = int(os.environ["SYNC_RETRIES"])
        if is_transient(cause) and context.op_execution_context.retry_number < retries:
            seconds = float(os.environ["SYNC_RETRY_SECONDS"])
            logger.warning("%s: %s; the whole resource is read again in %.0f s", table.name, cause, seconds)
            raise dg.RetryRequested(max_retries=retries, seconds_to_wait=seconds) from error
        what = f"{table.name} was not loaded: {cause}. {_held(context.instance, table)}"
        raise dg.Failure(what, {"cause": str(cause)}, allow_retries=False) from error


def _cause(error: BaseException) -> BaseException:
    """The error at the bottom: dlt wraps what a source raises twice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _held(instance: dg.DagsterInstance, table: Table) -> str:
    """What the table holds, as its last materialization has said."""
    loaded = history.last_materialization(instance, table.name)
    if loaded is None:
        return "It has never been loaded."
    return f"The table still holds {loaded.metadata['dagster/row_count']} rows of {loaded.time:%Y-%m-%d %H:%M} UTC."


assets = [_asset(table) for table in RESOURCES.values()]
