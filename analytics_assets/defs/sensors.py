"""The sensors: new rows at the API, tables to rebuild, runs that failed, runs that are lost."""

import time
import warnings
from collections.abc import Sequence

import dagster as dg
import requests
from tenacity import retry, stop_after_attempt, wait_exponential

from analytics_assets.defs import history
from analytics_assets.defs.catalog import API_GROUP, MARTS_GROUP, REFERENCE_GROUP
from analytics_assets.extract.api import api_name, has_row
from analytics_assets.extract.faults import Fault
from analytics_assets.settings import Settings, find
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table

warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*use_user_code_server")
GROWN = "grown"  # run tag grown/<resource>: the new row that the run should read

marts_sensor = dg.AutomationConditionSensorDefinition(
    "marts_sensor",
    target=dg.AssetSelection.groups(MARTS_GROUP, REFERENCE_GROUP),
    default_status=dg.DefaultSensorStatus.RUNNING,
    use_user_code_server=True,  # it has `history.IsOutdated`
    description="Rebuilds the marts and the copy after their sources have been synced, never during a sync, and at "
    "midnight (UTC), since some numbers depend on the day.",
)


def sensors(settings: Settings) -> Sequence[dg.SensorDefinition]:
    """All sensors. Only the sensor that calls the API is off by default, unless `AUTOMATION` is `running`."""
    is_running = settings.automation == "running"
    new_rows_sensor = dg.sensor(
        name="new_rows_sensor",
        target=dg.AssetSelection.groups(API_GROUP),
        minimum_interval_seconds=settings.new_rows_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED,
        description="Asks the API with one call per resource whether it has more rows than at the last sync, and syncs "
        "the resources that have grown.",
    )(look_for_new_rows)
    return [marts_sensor, new_rows_sensor, failed_run_sensor, lost_runs_sensor]


def look_for_new_rows(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.RunRequest | dg.SkipReason:
    """With `per_page=1`, page number rows + 1 exists only if the resource has grown."""
    tags: dict[str, str] = {}
    notes: list[str] = []
    failed = 0
    for table in RESOURCES.values():
        try:
            position = _position(context, table, settings)
            if has_row(settings, table, int(position.partition("@")[0])):
                tags[f"{GROWN}/{table.name}"] = position
        except Waiting as waiting:
            notes.append(f"{table.name}: {waiting}")
        except Fault as error:
            failed += 1
            context.log.warning(f"{table.name}: {error}")
            notes.append(f"{table.name}: {error}")
            if failed == len(RESOURCES):
                raise
    if tags:
        return dg.RunRequest(asset_selection=[dg.AssetKey(tag.rpartition("/")[2]) for tag in tags], tags=tags)
    return dg.SkipReason("; ".join(["No new rows", *notes]))


class Waiting(Exception):
    """The API need not be asked about a resource now; the message says why."""


def _position(context: dg.SensorEvaluationContext, table: Table, settings: Settings) -> str:
    """The number of the row that exists only if the resource has grown, and the last run that loaded the resource.

    Together they tag the run that should read the new row, so that it is requested once, and again only if that run has
    failed. Raises `Waiting` if the API need not be asked.
    """
    instance, tag = context.instance, f"{GROWN}/{table.name}"
    run = history.last_run(instance, table.name)
    if run and not run.is_finished:
        raise Waiting(f"being synced by run {run.run_id[:8]}")
    last = history.last_materialization(instance, table.name)
    if last and last.metadata.get("api") != api_name(settings):
        last = None  # rows of another API do not count
    number = 1 + history.rows_known(last) if last else 1
    made_by = instance.get_run_by_id(last.run_id) if last else None
    reached = int(made_by.tags.get(tag, "0@").partition("@")[0]) if made_by else 0
    # A run for this row did not find it: the API counts a row that it does not return. Ask for the next one.
    number = max(number, reached + 1)
    position = f"{number}@{last.run_id if last else 'never'}"
    asked = instance.get_run_records(dg.RunsFilter(tags={tag: position}))
    if any(not record.dagster_run.is_failure_or_canceled for record in asked):
        raise Waiting("a run has been requested")
    if asked and asked[0].end_time:
        pause = settings.new_rows_seconds * (2 ** (len(asked) - 1) - 1)
        since = time.time() - asked[0].end_time
        if since < 0:
            context.log.warning(f"{table.name}: its last run ended {-since:.0f} s in the future: a clock was wrong")
        if abs(since) < pause:  # it ended in the future if a clock was ahead
            raise Waiting(f"{len(asked)} syncs have failed; the next is requested {pause} s after the last")
    return position


@dg.run_failure_sensor(
    name="failed_run_sensor",
    monitor_all_code_locations=True,  # also runs that none launched, such as a notebook's
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Logs what failed in a run, and posts it to FAILURE_WEBHOOK_URL if that is set.",
)
def failed_run_sensor(context: dg.RunFailureSensorContext) -> None:
    """One message per failed run: the failed assets by name, each with its cause."""
    failures = [history.failure_text(event) for event in context.get_step_failure_events()]
    what = f"Run {context.dagster_run.run_id[:8]} of {context.dagster_run.job_name} failed."
    text = "\n".join([what, *(failures or [context.failure_event.message or "No error is recorded."])])
    context.log.error(text)
    # Not of the settings as a whole: if another one is wrong, that is what has to be told.
    if url := find("FAILURE_WEBHOOK_URL"):
        _post(url, text)


@retry(stop=stop_after_attempt(3), wait=wait_exponential(), reraise=True)
def _post(url: str, text: str) -> None:
    """Post the message; an error does not show the URL, which is a secret for most services."""
    try:
        status = requests.post(url, json={"text": text}, timeout=10).status_code
    except requests.RequestException as error:
        raise ConnectionError(f"the webhook could not be reached: {type(error).__name__}") from None
    if status >= 400:
        raise ConnectionError(f"the webhook answered HTTP {status}")


@dg.sensor(
    name="lost_runs_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks a run as failed if its process or its code server is gone; otherwise the marts would wait for "
    "it for ever.",
)
def lost_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Starts nothing."""
    lost = history.end_lost_runs(context.instance)
    return dg.SkipReason(f"Ended {', '.join(lost)}" if lost else "No run is lost")
