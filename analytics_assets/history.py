"""Questions to Dagster's history of an asset: its last success, its last try, what went wrong, what is outdated."""

import os
from datetime import UTC, datetime
from typing import Any, NamedTuple

import dagster as dg
from dagster import AutomationCondition

PROCESS_TAG = "analytics_assets/process"


class Materialization(NamedTuple):
    """When an asset was made (UTC), by which run, and with what metadata."""

    time: datetime
    run_id: str
    metadata: dict[str, Any]


def materializations(instance: dg.DagsterInstance, name: str, most: int) -> list[Materialization]:
    """The newest materializations of the asset, the newest first."""
    found = []
    for record in instance.fetch_materializations(dg.AssetKey(name), limit=most).records:
        made = record.asset_materialization
        metadata = {label: entry.value for label, entry in made.metadata.items()} if made else {}
        found.append(Materialization(datetime.fromtimestamp(record.timestamp, UTC), record.run_id, metadata))
    return found


def last_materialization(instance: dg.DagsterInstance, name: str) -> Materialization | None:
    """The newest materialization of the asset; None where there is none."""
    return next(iter(materializations(instance, name, 1)), None)


def rows_known(sync: Materialization) -> int:
    """How many rows the API had, as far as a sync of a resource tells; a window by itself does not."""
    return int(sync.metadata.get("rows_known", sync.metadata.get("rows_read", 0)))


def last_run(instance: dg.DagsterInstance, name: str) -> dg.DagsterRun | None:
    """The newest run that was to make the asset, finished or not."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    return instance.get_run_by_id(planned.run_id) if planned else None


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed the runs of `make run` whose process is gone, and give their ids.

    Dagster itself watches only runs that it has launched. A run that stays started for ever would keep everything
    waiting that waits for the assets it was making.
    """
    lost = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        process = run.tags.get(PROCESS_TAG)
        if process and not _is_alive(int(process)):
            instance.report_run_failed(run, f"Process {process}, which executed this run, is gone.")
            lost.append(run.run_id)
    return lost


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def failure_text(event: dg.DagsterEvent) -> str:
    """What a person needs to know of a failed step: the description of its `dg.Failure`, else the error itself."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = (data.error.cause or data.error) if data.error else None
    return f"{event.step_key}: {error.message.strip() if error else 'no error is recorded'}"


class IsOutdated(dg.AutomationCondition[dg.AssetKey]):
    """A table it is made from has been made since it was made itself; or it was not made today (UTC), or never.

    What depends on the day, such as what is overdue, is right only for the day on which it was made.
    """

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        graph, instance = context.asset_graph_view.asset_graph, context.asset_graph_view.instance
        made = last_materialization(instance, context.key.to_user_string())
        parents = (last_materialization(instance, key.to_user_string()) for key in graph.get(context.key).parent_keys)
        today = context.evaluation_time.astimezone(UTC).date()
        outdated = made is None or made.time.date() < today or any(p and p.time > made.time for p in parents)
        return dg.AutomationResult(context, context.candidate_subset if outdated else context.get_empty_subset())


# Dagster's own `eager` forgets an update that comes in the same half minute as the mart's own last one, and one by a
# run that was to make the mart too but failed before. What is made from a mart is made in the same run as the mart.
requested = AutomationCondition.any_deps_match(AutomationCondition.will_be_requested())
updated = AutomationCondition.any_deps_match(AutomationCondition.newly_updated())
follow_parents = (
    (updated | requested | AutomationCondition.cron_tick_passed("0 0 * * *")).since(
        AutomationCondition.newly_requested()
    )
    & (IsOutdated() | requested)
    & ~AutomationCondition.any_deps_missing()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
).with_label("follow_parents")
