"""Dagster's event log with its files kept open, beside Dagster's own in the same folder."""

import os
from pathlib import Path
from threading import Event

import dagster as dg

from analytics_assets.defs.dagster_private import SqliteEventLogStorage
from analytics_assets.defs.event_log import OPEN_FILES, EventLog


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
    """An existing history is kept, and Dagster's own storage reads new events."""
    events = dagster_home / "history" / "runs"
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, EventLog)
        run_id = run(instance)
        mine = instance.all_logs(run_id)
        assert instance.get_latest_materialization_event(dg.AssetKey("made"))
    theirs = SqliteEventLogStorage(str(events)).get_logs_for_run(run_id)
    assert [event.dagster_event_type for event in theirs] == [event.dagster_event_type for event in mine]
    assert len(theirs) > 10


def test_a_run_can_be_followed_while_it_is_written(dagster_home: Path) -> None:
    """Who watches a run as the UI does is given every event without asking again."""
    with dg.DagsterInstance.get() as instance:
        first = run(instance)
        theirs = SqliteEventLogStorage(str(dagster_home / "history" / "runs"))
        seen: list[str] = []
        all_seen = Event()

        def see(event: dg.EventLogEntry, _: str) -> None:
            seen.append(event.get_dagster_event().message or "")
            if len(seen) == 3:
                all_seen.set()

        theirs.watch(first, theirs.get_records_for_run(first).cursor, see)
        for message in ("one", "two", "three"):
            instance.report_engine_event(message, instance.get_run_by_id(first))
        assert all_seen.wait(30)
        theirs.dispose()
        assert seen == ["one", "two", "three"]


def test_few_files_stay_open(dagster_home: Path) -> None:
    """Those of older runs are closed, and all of them with the instance."""

    def opened() -> list[str]:
        return [link for link in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if link.endswith(".db")]

    with dg.DagsterInstance.get() as instance:
        for _ in range(OPEN_FILES + 2):
            run(instance)
        assert 0 < len({link for link in opened() if str(dagster_home) in link}) <= OPEN_FILES
    assert not [link for link in opened() if str(dagster_home / "history" / "runs") in link]
