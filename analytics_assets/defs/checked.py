"""What is asked before anything starts: the settings, each by who knows what it must be."""

from analytics_assets import settings
from analytics_assets.extract import budget
from analytics_assets.load import published
from analytics_assets.tables.schema import RESOURCES


def check() -> None:
    """Raise `WrongSetting` for what cannot mean anything."""
    settings.check(RESOURCES)
    published.masking_key()
    budget.database()
