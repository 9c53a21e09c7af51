"""What every asset says about itself so that people can trust it."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import ingestion, marts, reference, trust
from analytics_assets.settings import CHECKOUT
from analytics_assets_tests.conftest import configured, warehouse

NODES = [defs.resolve_asset_graph().get(key) for key in sorted(defs.resolve_asset_graph().get_all_asset_keys())]
CUT = 50  # characters of a description that the catalog shows


@pytest.mark.parametrize("node", NODES, ids=lambda node: str(node.key.path[-1]))
def test_every_asset_has_what_trust_needs(node: Any) -> None:
    """An owner, a freshness policy, how critical it is, and a first sentence that the catalog does not cut."""
    assert node.owners == ["team:analytics"]
    assert node.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=52), timedelta(hours=26))
    assert node.tags["criticality"] in ("high", "normal")
    first, stop, _ = node.description.partition(".")
    assert stop
    assert len(first + stop) <= CUT, first


def test_what_marts_are_made_from_is_critical() -> None:
    """An error in a table that others are made from goes on."""
    high = {node.key.path[-1] for node in NODES if node.tags["criticality"] == "high"}
    assert high >= {"users", "trainings", "registrations", "registrations_enriched"}
    assert "paths_users" not in high


def test_the_grain_stands_above_the_columns() -> None:
    """What one row is can be read where the columns are."""
    [users] = [node for node in NODES if node.key.path == ["users"]]
    assert users.metadata["dagster/column_schema"].constraints.other == ["One row per learner account"]


def test_code_is_linked_where_it_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the repository's address an asset leads to the files that make it; without it to none."""
    [users, *_] = [a for a in ingestion.assets(configured(), warehouse()) if a.key.path == ["users"]]
    for address, links in (("", []), ("https://git.example/blob/main/", ["extract/source.py", "tables/resources.py"])):
        monkeypatch.setenv("REPOSITORY_URL", address)
        [asset] = trust.trusted([users], configured())
        references = asset.metadata_by_key[asset.key].get("dagster/code_references")
        urls = [link.url for link in references.code_references] if references else []
        assert urls == [f"https://git.example/blob/main/analytics_assets/{file}" for file in links]


def test_every_link_leads_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asset has a link to what makes it, and none to what is not there."""
    monkeypatch.setenv("REPOSITORY_URL", f"https://git.example{CHECKOUT}")
    made = [*ingestion.assets(configured(), warehouse()), *marts.assets(warehouse()), *reference.assets(warehouse())]
    for asset in trust.trusted(made, configured()):
        for spec in asset.specs:
            references = spec.metadata["dagster/code_references"].code_references
            assert all(Path(urlsplit(link.url).path).is_file() for link in references), references
