"""Questions to Dagster's history of an asset: its last success, its last try, and what went wrong."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import dagster as dg


class Materialization(NamedTuple):
    """When an asset was made (UTC), by which run, and with what metadata."""

    time: datetime
    run_id: str
    metadata: dict[str, Any]


def last_materialization(instance: dg.DagsterInstance, name: str) -> Materialization | None:
    """The newest materialization of the asset; None where there is none."""
    event = instance.get_latest_materialization_event(dg.AssetKey(name))
    if event is None or event.asset_materialization is None:
        return None
    metadata = {label: entry.value for label, entry in event.asset_materialization.metadata.items()}
    return Materialization(datetime.fromtimestamp(event.timestamp, UTC), event.run_id, metadata)


def last_run(instance: dg.DagsterInstance, name: str) -> dg.DagsterRun | None:
    """The newest run that was to make the asset, finished or not."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    return instance.get_run_by_id(planned.run_id) if planned else None


def failure_text(event: dg.DagsterEvent) -> str:
    """What a person needs to know of a failed step: the description of its `dg.Failure`, else the error itself."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = (data.error.cause or data.error) if data.error else None
    return f"{event.step_key}: {error.message.strip() if error else 'no error is recorded'}"
