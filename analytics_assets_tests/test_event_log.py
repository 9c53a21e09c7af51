"""Dagster's event log with its files kept open, beside Dagster's own in the same folder."""

import os
import shutil
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from analytics_assets.event_log import OPEN_FILES, EventLog


@dg.asset
def made() -> None:
    """Something to store events of."""


@dg.asset_check(asset=made)
def holds() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


DEFINITIONS = dg.Definitions([made], asset_checks=[holds])


def run(instance: dg.DagsterInstance) -> str:
    """Its id."""
    return DEFINITIONS.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).run_id


def test_the_project_keeps_its_events_where_dagster_would(dagster_home: Path) -> None:
    """A history of before is still there, and Dagster's own storage reads what is written from now on."""
    events = dagster_home / "history" / "runs"
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, EventLog)
        run_id = run(instance)
        mine = instance.all_logs(run_id)
        assert instance.get_latest_materialization_event(dg.AssetKey("made"))
    theirs = SqliteEventLogStorage(str(events)).get_logs_for_run(run_id)
    assert [event.dagster_event_type for event in theirs] == [event.dagster_event_type for event in mine]
    assert len(theirs) > 10


def test_each_event_changes_the_runs_own_file(dagster_home: Path, tmp_path: Path) -> None:
    """The UI follows a run by the changes of its file: no event may stay in what SQLite keeps beside it."""
    with dg.DagsterInstance.get() as instance:
        run_id = run(instance)
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(dagster_home / "history" / "runs" / f"{run_id}.db", copy)  # without the log beside it
        stored = SqliteEventLogStorage(str(copy)).get_logs_for_run(run_id)
        assert len(stored) == len(instance.all_logs(run_id))


def test_few_files_stay_open(dagster_home: Path) -> None:
    """Those of older runs are closed, and all of them with the instance."""

    def opened() -> list[str]:
        return [link for link in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if link.endswith(".db")]

    with dg.DagsterInstance.get() as instance:
        for _ in range(OPEN_FILES + 2):
            run(instance)
        assert 0 < len({link for link in opened() if str(dagster_home) in link}) <= OPEN_FILES
    assert not [link for link in opened() if str(dagster_home / "history" / "runs") in link]
