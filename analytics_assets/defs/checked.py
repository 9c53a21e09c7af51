"""What is asked before anything starts: the settings, each by who knows what it must be."""

import os

import dagster as dg

from analytics_assets import settings
from analytics_assets.extract import budget
from analytics_assets.load import published
from analytics_assets.tables.resources import RESOURCES


def check() -> None:
    """Raise `WrongSetting` for what cannot mean anything."""
    settings.check(RESOURCES)
    for name in settings.CRONS:
        try:
            dg.ScheduleDefinition(name="checked", job_name="checked", cron_schedule=os.environ[name])
        except dg.DagsterInvalidDefinitionError:
            what = f"{name} is {os.environ[name]!r}, and must be five fields like {settings.DEFAULTS['NIGHTLY_CRON']}"
            raise settings.WrongSetting(what) from None
    published.masking_key()
    budget.database()
