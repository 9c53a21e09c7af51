"""What one run reads: which resources, in which order, and each within which limits."""

from datetime import datetime, timedelta
from typing import Any, cast

import dagster as dg
from pydantic import Field

from analytics_assets.defs import history
from analytics_assets.extract.api import api_name
from analytics_assets.load import ledger
from analytics_assets.settings import Settings
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

WINDOW_OVERLAP = timedelta(hours=24)  # by which a window begins before the last sync, for clocks that differ, late rows


class SyncConfig(dg.Config):
    """What a run may be told about one resource."""

    accept_fewer_rows: bool = Field(
        default=False, description="Load the resource even if it has shrunk more than SHRINKING_SHARE allows."
    )
    whole: bool = Field(
        default=False, description="Read the whole resource, even where a window of dates would do (API_WINDOW_...)."
    )


def resources(context: dg.AssetExecutionContext) -> list[Table]:
    """The resources that the run is to load, in the order in which it will."""
    steps = context.run.step_keys_to_execute  # fewer where a run is repeated from its failure
    names = [node.name for node in context.job_def.nodes_in_topological_order if node.name in RESOURCES]
    due = [RESOURCES[name] for name in names if steps is None or name in steps]
    return sorted(due, key=lambda table: not table.refers)


def sync(context: dg.AssetExecutionContext, table: Table, settings: Settings, last: ledger.LastSync) -> Sync:
    """A sync of the table within the limits that the run has for it, given the last one."""
    # All resources begin with the first op, whose own configuration says nothing of the others. The run's own lacks
    # what the job sets by default.
    ops = context.op_execution_context.get_step_execution_context().resolved_run_config.ops
    config = SyncConfig(**cast(dict[str, Any], ops[table.name].config))
    is_whole, accepts = config.whole or settings.whole_sync, config.accept_fewer_rows or settings.accept_fewer_rows
    return Sync(
        window_start=None if is_whole else _window_start(context, table, settings, last),
        known_pages=last.pages,
        least_rows=0 if accepts else ledger.least_rows(last, settings.shrinking_share),
        rejected_share=settings.rejected_share,
    )


def _window_start(
    context: dg.AssetExecutionContext, table: Table, settings: Settings, last: ledger.LastSync
) -> datetime | None:
    """Where a window has to begin so that it misses nothing since the last sync of this API.

    None if everything has to be read, as the first time.
    """
    before = history.last_materialization(context.instance, table.name) if table.name in settings.api_windows else None
    if last.started_at is None or before is None or before.metadata.get("api") != api_name(settings):
        return None
    return last.started_at - WINDOW_OVERLAP
