"""Questions to Dagster's history of an asset: its last success, its last try, what went wrong, what is outdated."""

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import dagster as dg
from dagster import AutomationCondition

from analytics_assets.defs.dagster_private import code_server_has

WHEN = "%Y-%m-%d %H:%M UTC"
PROCESS_TAG = ".dagster/analytics_assets/process"  # hidden in the UI; the value names machine and process
SERVER_TAG = ".dagster/grpc_info"  # Dagster's own: the code server that has launched a run as a process of its own


class Materialization(NamedTuple):
    """When an asset was made (UTC), by which run, with what metadata and tags, and its number in the history."""

    time: datetime
    run_id: str
    metadata: dict[str, Any]
    tags: Mapping[str, str]
    number: int

    def read(self, parent: str) -> int:
        """The number of the parent's materialization that it was made from: Dagster notes it when a step begins."""
        noted = self.tags.get(f"dagster/input_event_pointer/{parent}", str(self.number))
        return int(noted) if noted.isdigit() else 0


def materializations(instance: dg.DagsterInstance, name: str, most: int) -> list[Materialization]:
    """The newest materializations of the asset, the newest first."""
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
    """How many rows the API had, as far as a sync of a resource tells; a window by itself does not."""
    return int(sync.metadata.get("rows_known", sync.metadata.get("rows_read", 0)))


def last_run(instance: dg.DagsterInstance, name: str, but: str = "") -> dg.DagsterRun | None:
    """The newest run that was to make the asset, finished or not; None where it is the one with the id `but`."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    return instance.get_run_by_id(planned.run_id) if planned and planned.run_id != but else None


def behind(instance: dg.DagsterInstance, parents: Iterable[str]) -> dict[str, str]:
    """Those of `parents` that could not be made last time, each with when that was and of when its rows are."""
    notes = {}
    for parent in parents:
        loaded = last_materialization(instance, parent)
        run = last_run(instance, parent, but=loaded.run_id) if loaded else None
        if loaded and run and run.is_failure_or_canceled:
            [tried] = instance.get_run_records(dg.RunsFilter([run.run_id]))
            notes[parent] = (
                f"could not be made on {tried.create_timestamp:{WHEN}}; its rows are of {loaded.time:{WHEN}}"
            )
    return notes


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed the runs whose process is gone, and give their ids.

    Dagster itself watches a run that it has launched as long as its code server lives, and one of `make run` not at
    all. A run that stays started for ever would keep everything waiting that waits for the assets it was making.
    """
    lost = []
    # One of `make run` that was interrupted before its first step has not even started.
    unfinished = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        process = "" if run.parent_run_id else run.tags.get(PROCESS_TAG, "")  # a repeated run has the tags of the first
        if _is_gone(process):
            why = f"Process {process}, which executed this run, is gone."
        elif run.status == dg.DagsterRunStatus.STARTED and _is_disowned(run):
            why = "The code server that executed this run ended before it did."
        else:
            continue
        now = instance.get_run_by_id(run.run_id)
        if now and now.status in unfinished:  # it may have ended meanwhile
            instance.report_run_failed(now, why)
            lost.append(run.run_id)
    return lost


def this_process() -> str:
    """The value of `PROCESS_TAG` for a run that this process executes."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _is_gone(process: str) -> bool:
    """Whether it was a process of this machine, and is no more; of another machine's nothing is known."""
    machine, _, number = process.rpartition("/")
    return machine == socket.gethostname() and not _is_alive(int(number))


def _is_disowned(run: dg.DagsterRun) -> bool:
    """Whether a code server stands where the one was that launched the run, and does not know it."""
    where = json.loads(run.tags.get(SERVER_TAG, "{}"))
    if not where.get("port"):  # one of `dagster dev`, which after a reload knows its newest runs only
        return False
    try:
        return not code_server_has(run, where["host"], where["port"])
    except dg.DagsterError:  # nothing answers there
        return False


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
    return f"{event.step_key}: {failure_cause(event)}"


def failure_cause(event: dg.DagsterEvent) -> str:
    """What a `dg.Failure` gives as its cause, else the error; of one of this project's own, without its class."""
    data = event.step_failure_data
    if failure := data.user_failure_data:
        return str(failure.metadata["cause"].value if "cause" in failure.metadata else failure.description)
    error = (data.error.cause or data.error) if data.error else None
    return re.sub(r"^analytics_assets\.[\w.]+: ", "", error.message.strip()) if error else "no error is recorded"


class IsOutdated(dg.AutomationCondition[dg.AssetKey]):
    """A table it is made from has been made since; or it was not made today (UTC), or never.

    What depends on the day, such as what is overdue, is right only for the day on which it was made. A try that failed
    counts like one that did not: what cannot be made is asked for once an update and once a day, not with every tick.
    What it has blocked in its run is asked for without it.

    This is a question to the history alone. Dagster's own conditions go by what has changed between two ticks, and
    `since(newly_requested())`, so `eager()` too, forgets an update in the half minute after a request.
    """

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        graph, instance = context.asset_graph_view.asset_graph, context.asset_graph_view.instance
        name = context.key.to_user_string()
        made, failed = last_materialization(instance, name), _failed_try(instance, name)

        def is_new(parent: str) -> bool:
            new, read = last_materialization(instance, parent), made.read(parent) if made else 0
            return new is not None and new.number > read and not (failed and failed.has_read(new))

        today = context.evaluation_time.astimezone(UTC).date()
        parents = (key.to_user_string() for key in graph.get(context.key).parent_keys)
        outdated = all(at.time.date() < today for at in (made, failed) if at) or any(map(is_new, parents))
        return dg.AutomationResult(context, context.candidate_subset if outdated else context.get_empty_subset())


class _FailedTry(NamedTuple):
    """When a run began that was to make the asset, its number in the history, and when its turn came if it did."""

    time: datetime
    number: int
    step_time: float

    def has_read(self, parent: Materialization) -> bool:
        return parent.number < self.number or parent.time.timestamp() < self.step_time


def _failed_try(instance: dg.DagsterInstance, name: str) -> _FailedTry | None:
    """The newest try to make the asset; None if that one has made it."""
    planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
    made = last_materialization(instance, name)
    run = instance.get_run_record_by_id(planned.run_id) if planned else None
    if planned is None or run is None or (made and made.run_id == planned.run_id):
        return None
    steps = instance.get_run_step_stats(planned.run_id, [name])
    return _FailedTry(
        run.create_timestamp, planned.storage_id, max((step.start_time or 0 for step in steps), default=0)
    )


# What is made from a mart that is to be made is made in the same run.
requested = AutomationCondition.any_deps_match(AutomationCondition.will_be_requested())
# Of parents, and of what a mart among them is made from: otherwise it would be made once before and once after it.
in_progress = AutomationCondition.in_progress()
parents_in_progress = AutomationCondition.any_deps_match(in_progress | AutomationCondition.any_deps_match(in_progress))
follow_parents = (
    (IsOutdated() | requested) & ~AutomationCondition.any_deps_missing() & ~parents_in_progress & ~in_progress
).with_label("follow_parents")
