"""An asset in Dagster's history: its last success and attempt, why that failed, and whether the asset is outdated."""

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg
from dagster import AutomationCondition

from analytics_assets.defs.dagster_private import code_server_has

WHEN = "%Y-%m-%d %H:%M UTC"
PROCESS_TAG = ".dagster/analytics_assets/process"  # hidden in the UI; the value names machine and process
CLOCKS_DIFFER = timedelta(hours=1)  # what is dated further in the future was dated by a wrong clock
SERVER_TAG = ".dagster/grpc_info"  # set by Dagster: the code server that launched the run


class Materialization(NamedTuple):
    """One materialization of an asset: its time (UTC), run, metadata, tags, and number in the history."""

    time: datetime
    run_id: str
    metadata: dict[str, Any]
    tags: Mapping[str, str]
    number: int

    def read(self, parent: str) -> int:
        """The number of the parent's materialization that this one was made from, as noted when its step began."""
        noted = self.tags.get(f"dagster/input_event_pointer/{parent}", str(self.number))
        return int(noted) if noted.isdigit() else 0


def materializations(instance: dg.DagsterInstance, name: str, most: int) -> list[Materialization]:
    """The `most` newest materializations of the asset, newest first."""
    found = []
    for record in instance.fetch_materializations(dg.AssetKey(name), limit=most).records:
        made = record.asset_materialization
        metadata = {label: entry.value for label, entry in made.metadata.items()} if made else {}
        time, tags = datetime.fromtimestamp(record.timestamp, UTC), (made.tags if made else None) or {}
        found.append(Materialization(time, record.run_id, metadata, tags, record.storage_id))
    return found


def last_materialization(instance: dg.DagsterInstance, name: str) -> Materialization | None:
    """The newest materialization of the asset, or None."""
    return next(iter(materializations(instance, name, 1)), None)


def rows_known(sync: Materialization) -> int:
    """The number of rows that the API had at this sync; a sync by window adds to that of the last full one."""
    return int(sync.metadata.get("rows_known", sync.metadata.get("rows_read", 0)))


def last_run(instance: dg.DagsterInstance, name: str, but: str = "") -> dg.DagsterRun | None:
    """The newest run that was planned to make the asset, finished or not; None if its id is `but`."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    return instance.get_run_by_id(planned.run_id) if planned and planned.run_id != but else None


def behind(instance: dg.DagsterInstance, parents: Iterable[str]) -> dict[str, str]:
    """The `parents` that their last run did not update, with the times of that run and of their rows."""
    notes = {}
    for parent in parents:
        loaded = last_materialization(instance, parent)
        run = last_run(instance, parent, but=loaded.run_id) if loaded else None
        if loaded and run and run.is_failure_or_canceled:
            [tried] = instance.get_run_records(dg.RunsFilter([run.run_id]))
            notes[parent] = (
                f"was not updated on {tried.create_timestamp:{WHEN}}; its rows are from {loaded.time:{WHEN}}"
            )
    return notes


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed if their process is gone; return their ids.

    Dagster watches the runs that it launched, but only while their code server lives, and never those of `make run`. A
    run that stays "started" would block everything that waits for its assets.
    """
    lost = []
    # NOT_STARTED: a run of `make run` that was interrupted before its first step.
    unfinished = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        process = "" if run.parent_run_id else run.tags.get(PROCESS_TAG, "")  # a re-execution copies the tags
        if _is_gone(process):
            why = f"Process {process}, which executed this run, is gone."
        elif run.status == dg.DagsterRunStatus.STARTED and _is_disowned(run):
            why = "The code server that executed this run ended before it did."
        else:
            continue
        now = instance.get_run_by_id(run.run_id)
        if now and now.status in unfinished:  # it may have ended in the meantime
            instance.report_run_failed(now, why)
            lost.append(run.run_id)
    return lost


def this_process() -> str:
    """The value of `PROCESS_TAG` for a run that this process executes."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _is_gone(process: str) -> bool:
    """Whether this was a process of this machine and has ended. Processes of other machines count as alive."""
    machine, _, number = process.rpartition("/")
    if machine == socket.gethostname():
        try:
            os.kill(int(number), 0)
        except OSError as error:  # PermissionError: it lives and belongs to another user
            return isinstance(error, ProcessLookupError)
    return False


def _is_disowned(run: dg.DagsterRun) -> bool:
    """Whether the code server that launched the run was restarted and does not know it any more."""
    where = json.loads(run.tags.get(SERVER_TAG, "{}"))
    if not where.get("port"):  # launched by `dagster dev`, which after a reload knows only its newest runs
        return False
    try:
        return not code_server_has(run, where["host"], where["port"])
    except dg.DagsterError:  # nothing answers there
        return False


def failure_text(event: dg.DagsterEvent) -> str:
    """The description of the step's `dg.Failure`, else the error with the name of the step."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return f"{event.step_key}: {failure_cause(event)}"


def failure_cause(event: dg.DagsterEvent) -> str:
    """The cause given by the `dg.Failure`, else the error, without its class if this project defines it."""
    data = event.step_failure_data
    if failure := data.user_failure_data:
        return str(failure.metadata["cause"].value if "cause" in failure.metadata else failure.description)
    error = (data.error.cause or data.error) if data.error else None
    return re.sub(r"^analytics_assets\.[\w.]+: ", "", error.message.strip()) if error else "no error is recorded"


class IsOutdated(dg.AutomationCondition[dg.AssetKey]):
    """True if a parent has been updated since the last attempt, or if there was no attempt today (UTC).

    Daily, because "overdue" depends on the day. A failed attempt counts: a failing asset is requested once per update
    and once per day, not on every tick. Assets that were skipped because of it are requested without it.

    It looks only at the history. Dagster's own conditions compare two ticks, and `since(newly_requested())`, a part of
    `eager()`, loses an update in the 30 seconds after a request.
    """

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        graph, instance = context.asset_graph_view.asset_graph, context.asset_graph_view.instance
        name = context.key.to_user_string()
        made, failed = last_materialization(instance, name), _failed_try(instance, name)

        def is_new(parent: str) -> bool:
            new, read = last_materialization(instance, parent), made.read(parent) if made else 0
            return new is not None and new.number > read and not (failed and failed.has_read(new))

        now = context.evaluation_time.astimezone(UTC)
        times, latest = [at.time for at in (made, failed) if at], now + CLOCKS_DIFFER
        was_tried_today = any(now.date() <= time.date() and time <= latest for time in times)
        if not was_tried_today and times and max(times) > latest:
            context.log.warning(f"{name} was last made on {max(times):{WHEN}}, in the future: a clock was wrong")
        parents = (key.to_user_string() for key in graph.get(context.key).parent_keys)
        outdated = not was_tried_today or any(map(is_new, parents))
        return dg.AutomationResult(context, context.candidate_subset if outdated else context.get_empty_subset())


class _FailedTry(NamedTuple):
    """A failed attempt: the start of its run, its number in the history, its run, and whether its step began."""

    time: datetime
    number: int
    run_id: str
    has_begun: bool

    def has_read(self, parent: Materialization) -> bool:
        """Whether it began after the parent's materialization, by their order: times may be those of a wrong clock."""
        return parent.number < self.number or (self.has_begun and parent.run_id == self.run_id)


def _failed_try(instance: dg.DagsterInstance, name: str) -> _FailedTry | None:
    """The newest attempt to make the asset; None if it succeeded."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    made = last_materialization(instance, name)
    run = instance.get_run_record_by_id(planned.run_id) if planned else None
    if planned is None or run is None or (made and made.run_id == planned.run_id):
        return None
    steps = instance.get_run_step_stats(planned.run_id, [name])
    return _FailedTry(run.create_timestamp, planned.storage_id, planned.run_id, any(step.start_time for step in steps))


# Dependents of a requested mart are made in the same run.
requested = AutomationCondition.any_deps_match(AutomationCondition.will_be_requested())
# Also the parents of a parent mart: otherwise an asset would be made before that mart is rebuilt, and again after it.
in_progress = AutomationCondition.in_progress()
parents_in_progress = AutomationCondition.any_deps_match(in_progress | AutomationCondition.any_deps_match(in_progress))
follow_parents = (
    (IsOutdated() | requested) & ~AutomationCondition.any_deps_missing() & ~parents_in_progress & ~in_progress
).with_label("follow_parents")
