"""When downstream assets are rebuilt, tested with real runs of a small graph like that of the marts."""

import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from analytics_assets.defs.history import (
    PROCESS_TAG,
    end_lost_runs,
    follow_parents,
    last_materialization,
    this_process,
)

Made = Callable[..., dg.ExecuteInProcessResult]
Requested = Callable[..., set[str]]
BROKEN: set[str] = set()  # assets that cannot be made
NOW = datetime.now(UTC)  # for all ticks, since a midnight during a test would rebuild everything


def _asset(name: str, *parents: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=parents, automation_condition=follow_parents if parents else None)
    def make() -> None:
        if name in BROKEN:
            raise dg.Failure(allow_retries=False)

    return make


MARTS = {"joined", "progress", "copy"}
DEFS = dg.Definitions(
    [
        _asset("users"),
        _asset("trainings"),
        _asset("certificates"),
        _asset("joined", "users", "trainings"),
        _asset("progress", "joined", "certificates"),
        _asset("copy", "users", "trainings", "certificates", "joined", "progress"),
    ],
    jobs=[dg.define_asset_job("everything")],
)
JOB = DEFS.resolve_job_def("everything")


@pytest.fixture
def make(instance: dg.DagsterInstance) -> Made:
    """Makes these assets, or all, in one run."""

    def run(*names: str) -> dg.ExecuteInProcessResult:
        selection = [dg.AssetKey(name) for name in names] or None
        return JOB.execute_in_process(instance=instance, asset_selection=selection, raise_on_error=False)

    return run


@pytest.fixture
def requested(instance: dg.DagsterInstance) -> Requested:
    """Ticks of the sensor; each gives what it asks for in one run."""
    cursor = None

    def evaluate(time: datetime = NOW) -> set[str]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(DEFS, instance, cursor=cursor, evaluation_time=time)
        cursor = result.cursor
        return {name for name in MARTS if result.get_num_requested(dg.AssetKey(name))}

    return evaluate


def begin(instance: dg.DagsterInstance, *names: str, **tags: str) -> dg.DagsterRun:
    """A run that is to make these assets, and has begun."""
    run = instance.create_run_for_job(JOB, asset_selection=frozenset(map(dg.AssetKey, names)), tags=tags)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", run.job_name, message=""), run.run_id)
    return run


def test_a_mart_is_made_once_all_its_parents_are_there(make: Made, requested: Requested) -> None:
    """Synced one by one, the last of the parents has it made."""
    assert requested() == set()
    make("users")
    assert requested() == set()
    make("trainings")
    assert requested() == {"joined"}
    make("certificates")
    assert requested() == MARTS


def test_updates_are_followed_once_in_one_run(make: Made, requested: Requested) -> None:
    """Of several parents too, and what is made from a mart that is to be made comes with it, not once more after it."""
    make()
    assert requested() == set(), "the run has made them itself"
    make("users", "trainings")
    assert requested() == MARTS
    make(*MARTS)
    assert requested() == set()
    make("certificates")
    assert requested() == {"progress", "copy"}


def test_an_update_right_after_a_request_is_followed(make: Made, requested: Requested) -> None:
    """Within the same half minute the marts are made as asked for, and a parent is updated again."""
    make()
    make("users")
    assert requested() == MARTS
    make(*MARTS)
    make("trainings")
    assert requested() == MARTS
    make(*MARTS)
    assert requested() == set()
    make()
    make("users")
    assert requested() == MARTS


def test_an_update_while_a_mart_is_made_is_followed(
    make: Made, requested: Requested, instance: dg.DagsterInstance
) -> None:
    """A mart that ended after the update, but read the rows before it, is rebuilt."""
    make()
    key = dg.AssetKey("joined")
    before = instance.get_latest_materialization_event(key)
    assert before
    assert before.asset_materialization
    make("users")
    make("progress", "copy")
    instance.report_runless_asset_event(dg.AssetMaterialization(key, tags=before.asset_materialization.tags))
    assert requested() == MARTS


def test_marts_wait_while_what_they_are_made_from_is_made(
    make: Made, requested: Requested, instance: dg.DagsterInstance
) -> None:
    """A mart made from another one waits for that one's parents too: it is not made before and again after them."""
    make()
    make("certificates")
    running = begin(instance, "trainings")
    assert requested() == set()
    instance.report_run_canceled(running)
    assert requested() == {"progress", "copy"}


def test_what_cannot_be_made_is_asked_for_once(
    make: Made, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again after the next update of what it is made from, and on the next day; what it blocks is made without."""
    make()
    monkeypatch.setattr(f"{__name__}.BROKEN", {"progress"})
    make("users")
    assert requested() == MARTS
    make(*MARTS)
    assert requested() == {"copy"}
    make("copy")
    assert requested() == set()
    make("certificates")
    assert requested() == {"progress", "copy"}
    make("progress", "copy")
    make("copy")
    assert requested() == set()
    assert requested(NOW + timedelta(days=2)) == MARTS


def test_what_a_failed_parent_has_blocked_is_made_without_it(
    make: Made, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; and after a repeat from failure, which makes parent and marts, the next update is followed."""
    make()
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.BROKEN", {"users"})
        make()
        assert requested() == MARTS
        make(*MARTS)
        assert requested() == set()
    make("users", *MARTS)
    make("trainings")
    assert requested() == MARTS, "all of it before the next tick"
    make(*MARTS)
    assert requested() == set()


def test_marts_are_made_every_day(make: Made, requested: Requested, instance: dg.DagsterInstance) -> None:
    """Without any update they are asked for on the next day by UTC, once, and not again that day if that fails."""
    make()
    made = last_materialization(instance, "joined")
    assert made
    tomorrow = datetime.combine(made.time + timedelta(days=1), datetime.min.time(), UTC)
    assert requested(tomorrow - timedelta(seconds=1)) == set()
    assert requested(tomorrow) == MARTS
    running = begin(instance, *MARTS)
    assert requested(tomorrow + timedelta(seconds=30)) == set()
    instance.report_run_failed(running)
    assert requested(NOW) == set()


def made_at(instance: dg.DagsterInstance, name: str, time: datetime) -> None:
    """Another materialization of the asset, like the last one, by a clock that shows this time."""
    entry = instance.get_latest_materialization_event(dg.AssetKey(name))
    assert entry
    instance.store_event(entry._replace(timestamp=time.timestamp()))


def test_what_was_made_in_the_future_is_made_again(
    make: Made, requested: Requested, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock that was ahead and is right again does not stop the daily rebuild; once is enough, and it is said."""
    make()
    for name in MARTS:
        made_at(instance, name, NOW + timedelta(days=3))
    with caplog.at_level("WARNING", "dagster"):
        assert requested() == MARTS
    assert len([message for message in caplog.messages if message.endswith("in the future: a clock was wrong")]) == 3
    make(*MARTS)
    assert requested() == set()


def test_what_has_failed_in_the_future_is_tried_again(
    make: Made, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is right again, it has not been tried today."""
    make()
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.BROKEN", MARTS)
        make(*MARTS)
    assert requested() == set()
    assert requested(NOW - timedelta(days=3)) == MARTS


def test_an_update_by_a_clock_that_was_put_back_is_followed(
    make: Made, requested: Requested, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after a failed attempt, but its time is before that: what counts is the order in the history."""
    make()
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.BROKEN", {"joined"})
        make("joined")
    assert requested() == set()
    made_at(instance, "trainings", NOW - timedelta(days=3))
    assert requested() == MARTS


def test_a_run_is_lost_with_its_process(instance: dg.DagsterInstance) -> None:
    """With one of this machine that is gone; not one that lives, is another machine's."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = this_process().rpartition("/")[0]
    lost = begin(instance, "users", **{PROCESS_TAG: f"{here}/{gone.pid}"})
    interrupted = instance.create_run_for_job(JOB, tags={PROCESS_TAG: f"{here}/{gone.pid}"})  # before its first step
    begin(instance, "users", **{PROCESS_TAG: this_process()})
    begin(instance, "users", **{PROCESS_TAG: f"not-{here}/{gone.pid}"})
    instance.create_run_for_job(JOB)
    assert sorted(end_lost_runs(instance)) == sorted([lost.run_id, interrupted.run_id])
    assert end_lost_runs(instance) == []


def test_a_repeated_run_does_not_end_with_the_process_of_the_first(instance: dg.DagsterInstance) -> None:
    """It has the tags of the first one, which `make run` has executed, and a process of its own."""
    first = begin(instance, "users")
    gone = {PROCESS_TAG: f"{socket.gethostname()}/{2**30}"}
    instance.add_run_tags(first.run_id, gone)
    again = instance.create_run_for_job(JOB, tags=gone, parent_run_id=first.run_id, root_run_id=first.run_id)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", again.job_name, message=""), again.run_id)
    assert end_lost_runs(instance) == [first.run_id]
