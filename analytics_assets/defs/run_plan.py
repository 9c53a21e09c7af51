"""What one run reads: which resources, in which order, and within which limits."""

from datetime import datetime, timedelta
from typing import Any, cast

import dagster as dg
from pydantic import Field

from analytics_assets.defs import history
from analytics_assets.extract.api import address, api_name
from analytics_assets.load import ledger
from analytics_assets.settings import Settings
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

WINDOW_OVERLAP = timedelta(hours=24)  # a window begins earlier by this, for late rows and clocks that differ


class SyncConfig(dg.Config):
    """The configuration of one resource in a run."""

    accept_fewer_rows: bool = Field(
        default=False,
        description="Load the resource even if more rows are gone than SHRINKING_SHARE allows, or if the warehouse has "
        "the rows of another API.",
    )
    whole: bool = Field(
        default=False, description="Read the whole resource, even if it has a window of dates (API_WINDOW_...)."
    )


def tables_due(context: dg.AssetExecutionContext) -> list[Table]:
    """The resources that the run loads, in loading order."""
    steps = context.run.step_keys_to_execute  # fewer if a run is re-executed from failure
    names = [node.name for node in context.job_def.nodes_in_topological_order if node.name in RESOURCES]
    due = [RESOURCES[name] for name in names if steps is None or name in steps]
    return sorted(due, key=lambda table: not table.refers)


def sync(context: dg.AssetExecutionContext, table: Table, settings: Settings, last: ledger.LastSync) -> Sync:
    """A sync of the table with the limits of this run, given the last sync."""
    # The first op begins all resources, but has only its own configuration; the run's configuration lacks the job's
    # defaults.
    ops = context.op_execution_context.get_step_execution_context().resolved_run_config.ops
    config = SyncConfig(**cast(dict[str, Any], ops[table.name].config))
    is_whole, accepts = config.whole or settings.whole_sync, config.accept_fewer_rows or settings.accept_fewer_rows
    return Sync(
        number=last.number + 1,
        api=address(settings, table),
        accepts_api=accepts,
        window_start=None if is_whole else _window_start(context, table, settings, last),
        known_pages=last.pages,
        missing_share=1.0 if accepts else settings.shrinking_share,
        least_rows=0 if accepts else ledger.least_rows(last, settings.shrinking_share),
        rejected_share=settings.rejected_share,
    )


def _window_start(
    context: dg.AssetExecutionContext, table: Table, settings: Settings, last: ledger.LastSync
) -> datetime | None:
    """The start of a window that misses nothing since the last sync of this API; None to read everything."""
    before = history.last_materialization(context.instance, table.name) if table.name in settings.api_windows else None
    if last.window_start is None or last.api != address(settings, table):
        return None
    # The numbers on the asset's page add up from the last materialization of this API.
    if before is None or before.metadata.get("api") != api_name(settings):
        return None
    return last.window_start - WINDOW_OVERLAP
