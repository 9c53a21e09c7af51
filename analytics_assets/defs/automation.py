"""The jobs and the schedules."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from analytics_assets.defs.catalog import API_GROUP, MARTS_GROUP, REFERENCE_GROUP
from analytics_assets.settings import Settings
from analytics_assets.tables.resources import RESOURCES

RECONCILIATION_CRON = "0 3 * * 6"

analytics_job = dg.define_asset_job(
    "analytics_job",
    dg.AssetSelection.groups(API_GROUP, MARTS_GROUP, REFERENCE_GROUP),
    description="Sync the six resources and rebuild everything that is made from them.",
)
resource_jobs = [
    dg.define_asset_job(f"{name}_job", dg.AssetSelection.assets(name), description=f"Sync `{name}` alone.")
    for name in RESOURCES
]


def jobs(settings: Settings) -> Sequence[Any]:
    """The main job, one job per resource and, if rows are read by windows of dates, one that reads everything."""
    return [analytics_job, *resource_jobs, *([_reconciliation_job(settings)] if settings.api_windows else [])]


def schedules(settings: Settings) -> Sequence[dg.ScheduleDefinition]:
    """The nightly schedule and, if rows are read by windows of dates, the weekly one that reads everything."""
    is_running = settings.automation == "running"
    status = dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED
    nightly = dg.ScheduleDefinition(
        name="nightly_schedule",
        job=analytics_job,
        cron_schedule=settings.nightly_cron,
        execution_timezone=settings.nightly_timezone,
        default_status=status,
        description="Syncs everything once per night.",
    )
    if not settings.api_windows:
        return [nightly]
    reconciliation = dg.ScheduleDefinition(
        name="reconciliation_schedule",
        job_name="reconciliation_job",
        cron_schedule=RECONCILIATION_CRON,
        execution_timezone=settings.nightly_timezone,
        default_status=status,
        description="Reads in full the resources that are otherwise read by windows of dates. Only a full read sees "
        "deletions and later changes of older rows.",
    )
    return [nightly, reconciliation]


def _reconciliation_job(settings: Settings) -> Any:
    return dg.define_asset_job(
        "reconciliation_job",
        dg.AssetSelection.assets(*settings.api_windows),
        description="Read in full the resources that are otherwise read by windows of dates.",
        config={"ops": {name: {"config": {"whole": True}} for name in settings.api_windows}},
    )
