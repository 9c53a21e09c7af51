"""What runs by itself: jobs, the nightly schedule, the sensors.

What calls the API is stopped until somebody switches it on, in the UI or by `AUTOMATION=running`.
"""

import os

import dagster as dg
import requests

from analytics_assets import history
from analytics_assets.catalog import API_GROUP, MARTS_GROUP
from analytics_assets.schema import RESOURCES, Table
from analytics_assets.source import has_row

RUNNING = os.environ["AUTOMATION"] == "running"

analytics_job = dg.define_asset_job(
    "analytics_job",
    dg.AssetSelection.groups(API_GROUP, MARTS_GROUP),
    description="Sync the six resources and make everything that is built from them.",
)
resource_jobs = [
    dg.define_asset_job(f"{name}_job", dg.AssetSelection.assets(name), description=f"Sync `{name}` alone.")
    for name in RESOURCES
]
nightly_schedule = dg.ScheduleDefinition(
    name="nightly_schedule",
    job=analytics_job,
    cron_schedule=os.environ["NIGHTLY_CRON"],
    execution_timezone=os.environ["NIGHTLY_TIMEZONE"],
    default_status=dg.DefaultScheduleStatus.RUNNING if RUNNING else dg.DefaultScheduleStatus.STOPPED,
    description="Sync everything once a night.",
)
marts_sensor = dg.AutomationConditionSensorDefinition(
    "marts_sensor",
    target=dg.AssetSelection.groups(MARTS_GROUP),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes a mart anew when tables it is made from have been synced and none of them is being synced.",
)


@dg.sensor(
    name="new_rows_sensor",
    target=dg.AssetSelection.groups(API_GROUP),
    minimum_interval_seconds=int(os.environ["NEW_ROWS_SECONDS"]),
    default_status=dg.DefaultSensorStatus.RUNNING if RUNNING else dg.DefaultSensorStatus.STOPPED,
    description="Asks the API, at one call a resource, whether there are rows beyond those of the last sync, and has "
    "the resources synced that have grown.",
)
def new_rows_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """With `per_page=1`, page number rows + 1 exists only if the resource has grown."""
    tags: dict[str, str] = {}
    notes: list[str] = []
    errors: list[Exception] = []
    for table in RESOURCES.values():
        try:
            growth = _growth(context.instance, table)
        except (requests.RequestException, ValueError) as error:
            errors.append(error)
            notes.append(f"{table.name}: {error}")
        else:
            if growth:
                tags[f"grown/{table.name}"] = growth
    if len(errors) == len(RESOURCES):
        raise errors[0]
    for note in notes:
        context.log.warning(note)
    if tags:
        return dg.RunRequest(asset_selection=[dg.AssetKey(tag.removeprefix("grown/")) for tag in tags], tags=tags)
    return dg.SkipReason("; ".join(["No new rows", *notes]))


def _growth(instance: dg.DagsterInstance, table: Table) -> str | None:
    """What to tag a run with that reads the new rows of `table`; None where nothing is new or it is being read.

    The tag names the rows and the run of the last sync, so that one growth is asked for once, and again only if the
    run that was asked for has failed.
    """
    tag = f"grown/{table.name}"
    rows, base = 0, "0@"
    if last := history.last_materialization(instance, table.name):
        rows = int(str(last.metadata["rows_in_sync"]))
        base = f"{rows}@{last.run_id}"
        run = instance.get_run_by_id(last.run_id)
        if run and run.tags.get(tag, "").startswith(f"{rows}@"):
            return None  # that sync was made for a row beyond these, and did not get it: another would not either
    run = history.last_run(instance, table.name)
    if run and not run.is_finished:
        return None
    asked = instance.get_runs(dg.RunsFilter(tags={tag: base}))
    if any(not run.is_failure_or_canceled for run in asked):
        return None
    return base if has_row(table, rows + 1) else None


@dg.run_failure_sensor(
    name="failed_run_sensor",
    monitor_all_code_locations=True,  # or runs of `make run`, which no code location has launched, are not seen
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Logs what failed in a run, and posts it to FAILURE_WEBHOOK_URL where that is set.",
)
def failed_run_sensor(context: dg.RunFailureSensorContext) -> None:
    """One message a failed run: the failed assets by name, each with its cause."""
    lines = [f"Run {context.dagster_run.run_id[:8]} of {context.dagster_run.job_name} failed."]
    lines += [history.failure_text(event) for event in context.get_step_failure_events()]
    text = "\n".join(lines)
    context.log.error(text)
    url = os.environ.get("FAILURE_WEBHOOK_URL")
    if url:
        requests.post(url, json={"text": text}, timeout=10).raise_for_status()


@dg.sensor(
    name="lost_runs_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks as failed a `make run` whose process was killed; it would keep the join waiting for ever.",
)
def lost_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Starts nothing."""
    lost = history.end_lost_runs(context.instance)
    return dg.SkipReason(f"Ended {', '.join(lost)}" if lost else "No run is lost")


sensors = [marts_sensor, new_rows_sensor, failed_run_sensor, lost_runs_sensor]
