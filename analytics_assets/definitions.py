"""What Dagster loads: the lists of everything, and nothing else."""

import dagster as dg

from analytics_assets.defs import automation, checks, dagster_resources, ingestion, marts, reference, sensors, trust
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.load.warehouse import Warehouse

settings = checked_settings()
warehouse = Warehouse(settings)
defs = dg.Definitions(
    assets=trust.trusted(
        [*ingestion.assets(settings, warehouse), *marts.assets(warehouse), *reference.assets(warehouse)], settings
    ),
    asset_checks=checks.checks,
    jobs=automation.jobs(settings),
    schedules=automation.schedules(settings),
    sensors=sensors.sensors(settings),
    resources=dagster_resources.DAGSTER_RESOURCES,
    executor=dg.in_process_executor,  # one import of the stack per run, and no writer that outlives it
)
