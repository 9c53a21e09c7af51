"""What an asset's page shows about a sync."""

import logging
import time
from datetime import datetime
from typing import Any, cast

import dagster as dg

from analytics_assets.defs import column_profile, history
from analytics_assets.extract.api import api_name
from analytics_assets.extract.budget import budget
from analytics_assets.extract.faults import Fault
from analytics_assets.load import statements
from analytics_assets.load.changes import Changes
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.entry import Counts
from analytics_assets.settings import Settings
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync

logger = logging.getLogger(__name__)


def of(
    client: SqlClient,
    table: Table,
    changes: Changes,
    counts: Counts,
    settings: Settings,
    before: history.Materialization | None,
) -> dict[str, Any]:
    """The metadata of a sync that has been loaded and recorded; `before` is the previous materialization."""
    sync = changes.sync
    metadata = {
        **column_profile.of(client, table, counts.total),
        "dagster/row_count": counts.total,
        "rows_in_sync": changes.rows,
        "rows_read": sync.rows,
        "added_rows": changes.added,
        "changed_rows": changes.changed,
        "rejected_rows": len(sync.rejected),
        "deleted_rows": counts.deleted,
        "pages": sync.pages,
        "resumed_pages": sync.resumed_pages,
        "calls": sync.calls,
        **_calls_left(settings),
        "extra_fields": sorted(sync.extra_fields),
        "seconds": round(time.monotonic() - sync.began, 2),
        "empty_columns": [name for name in table.fields if name not in sync.filled] if changes.rows else [],
        "dagster/table_name": statements.full_name(client, table),
        "api": api_name(settings),
    }
    return metadata if sync.window_start is None or before is None else metadata | _known(sync, before, metadata)


def _calls_left(settings: Settings) -> dict[str, int]:
    """The calls that may be sent now; empty after a fault, because a loaded sync must not fail for it."""
    try:
        return {"calls_left": budget(settings).left()}
    except Fault as error:
        logger.warning("%s", error)
        return {}


def _known(sync: Sync, before: history.Materialization, metadata: dict[str, Any]) -> dict[str, Any]:
    """The state of the whole resource after a sync by window: the state before it, and what the window added."""
    noted = before.metadata
    return {
        "window_start": dg.MetadataValue.timestamp(cast(datetime, sync.window_start)),
        "rows_known": history.rows_known(before) + metadata["dagster/row_count"] - noted["dagster/row_count"],
        "extra_fields": sorted({*noted["extra_fields"], *sync.extra_fields}),
        "empty_columns": [name for name in noted["empty_columns"] if name not in sync.filled],
    }
