"""The mart assets: each fills a table with the result of its SQL file.

The SQL says which tables a mart is made from; `tables.marts` describes its columns.
"""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from analytics_assets.defs import column_profile, glance, history, picture
from analytics_assets.defs.catalog import MARTS_GROUP, asset_spec, column_lineage
from analytics_assets.load import statements
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.marts import lineage
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.schema import Table


def assets(warehouse: Warehouse) -> Sequence[dg.AssetsDefinition]:
    """An asset per mart."""
    return [_asset(table, warehouse) for table in MARTS.values()]


def _asset(table: Table, warehouse: Warehouse) -> dg.AssetsDefinition:
    read = lineage.of(table.name)
    drawn = picture.embedded(picture.lineage(read), f"Where the columns of {table.name} come from")
    spec = asset_spec(read.described(), MARTS_GROUP, "sql", warehouse, read.parents).merge_attributes(
        metadata={**column_lineage(read), "column_sources": dg.MetadataValue.md(drawn)}
    )

    @dg.multi_asset(
        name=table.name,
        specs=[spec.replace_attributes(automation_condition=history.follow_parents)],
    )
    def fill(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[Any]:
        started = time.monotonic()
        with warehouse.connection() as client:
            missing = [name for name in read.reads if not statements.exists(client, name)]
            if missing:
                first = ", ".join(sorted({lineage.FILLED_BY[name] for name in missing if name in lineage.FILLED_BY}))
                raise dg.Failure(
                    f"{table.name} needs {', '.join(missing)}, which no run has loaded yet; materialize {first} first",
                    allow_retries=False,
                )
            statements.refill(client, table, lineage.query(table.name))
            [(rows,)] = client.execute_sql(f"SELECT count(*) FROM {table.name}") or [(0,)]
            name = statements.full_name(client, table)
            shown = {**glance.of(client, table.name), **column_profile.of(client, table, rows)}
        return dg.MaterializeResult(
            metadata={
                **shown,
                "dagster/row_count": rows,
                **{
                    f"{parent}_behind": note
                    for parent, note in history.behind(context.instance, lineage.sources(table.name)).items()
                },
                "seconds": round(time.monotonic() - started, 2),
                "dagster/table_name": name,
            }
        )

    return fill
