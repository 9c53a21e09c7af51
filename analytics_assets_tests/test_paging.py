"""From one answer to the next page, and what is no page."""

import json
from typing import Any

import pytest

from analytics_assets.batches import Sync
from analytics_assets.schema import RESOURCES
from analytics_assets.source import has_row, source
from analytics_assets_tests.contract_api import ContractApi, body

USERS = RESOURCES["users"]


def read(sync: Sync | None = None) -> list[str]:
    """The ids that a sync of `users` would load."""
    return [row["id"] for batch in source(USERS, sync) for row in batch.to_pylist()] if False else ids(sync)


def ids(sync: Sync | None) -> list[str]:
    return [row["id"] for row in source(USERS, sync)]
