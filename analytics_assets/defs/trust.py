"""Whether to trust an asset: its owner, freshness and criticality, and links to its code.

All of it is added to finished assets, so that new assets have it too. The contents of a table belong in `catalog`.
"""

import warnings
from collections.abc import Iterable
from datetime import timedelta

import dagster as dg

from analytics_assets.marts import lineage
from analytics_assets.settings import Settings
from analytics_assets.tables.bookkeeping import VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES

warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*CodeReference")


def trusted(assets: Iterable[dg.AssetsDefinition], settings: Settings) -> Iterable[dg.AssetsDefinition]:
    """The assets with owner, freshness policy, criticality and, if `REPOSITORY_URL` is set, links to their code."""
    late = timedelta(hours=settings.fresh_hours)
    fresh = dg.FreshnessPolicy.time_window(warn_window=late, fail_window=2 * late)
    url = settings.repository_url.rstrip("/")
    critical = {*MARTS, *(parent for mart in MARTS for parent in lineage.sources(mart))}

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        return spec.replace_attributes(owners=[settings.asset_owner], freshness_policy=fresh).merge_attributes(
            tags={"criticality": "high" if name in critical else "normal"},
            metadata=_code(name, url),
        )

    return dg.map_asset_specs(complete, assets)


def _code(name: str, url: str) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Links to the files that make the asset, its declaration last; none without the repository's `url`."""
    if not url:
        return {}
    if name in RESOURCES:
        files = ["extract/source.py", "tables/resources.py"]
    elif name in MARTS:
        files = [f"marts/{name}.sql", "tables/marts.py"]
    elif name in VIEWS:
        files = ["marts/dictionary.py", "tables/bookkeeping.py"]
    else:
        files = ["load/published.py"]
    links = (dg.UrlCodeReference(url=f"{url}/analytics_assets/{file}", label=file) for file in files)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[*links])}
