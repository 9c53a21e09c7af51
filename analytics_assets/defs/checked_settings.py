"""The settings, checked before anything starts."""

import dagster as dg

from analytics_assets import settings
from analytics_assets.extract import budget_database
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.settings import Settings, WrongSetting


def checked_settings() -> Settings:
    """The settings. Raises `WrongSetting` also for a value that only a library can check."""
    given = settings.read()
    try:
        dg.ScheduleDefinition(name="checked", job_name="checked", cron_schedule=given.nightly_cron)
    except dg.DagsterInvalidDefinitionError:
        raise WrongSetting(f"NIGHTLY_CRON is {given.nightly_cron!r}, and must be five fields like 0 2 * * *") from None
    if given.api_budget_url:
        budget_database.check(given.api_budget_url.get_secret_value())
    Warehouse(given)
    return given
