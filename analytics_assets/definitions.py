"""What Dagster loads: the lists of everything, and nothing else."""

import dagster as dg

from analytics_assets.defs import automation, checks, ingestion, marts, reference, trust

defs = dg.Definitions(
    assets=trust.trusted([*ingestion.assets, *marts.assets, *reference.assets]),
    asset_checks=checks.checks,
    jobs=automation.jobs,
    schedules=automation.schedules,
    sensors=automation.sensors,
    resources={"reader": ingestion.reader},
    executor=dg.in_process_executor,  # one import of the stack a run, and no writer that outlives it
)
