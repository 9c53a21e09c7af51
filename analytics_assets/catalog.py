"""How a declared table stands in Dagster's catalog: description, grain, columns, kinds, tags."""

import os
from collections.abc import Iterable

import dagster as dg

from analytics_assets.schema import Column, Table
from analytics_assets.warehouse import DATASET

PERSONAL = {"personal_data": ""}
API_GROUP = "analytics_api"
MARTS_GROUP = "marts"


def table_schema(table: Table) -> dg.TableSchema:
    """The columns of `table` with types, meaning, constraints and, for personal data, a tag; its grain above them."""

    def column(c: Column) -> dg.TableColumn:
        constraints = dg.TableColumnConstraints(nullable=c.nullable, unique=c.name == table.key)
        return dg.TableColumn(c.name, c.type.label, c.description, constraints, PERSONAL if c.personal else {})

    return dg.TableSchema([column(c) for c in table.columns], dg.TableConstraints([table.grain]))


def asset_spec(table: Table, group: str, tool: str, deps: Iterable[str] = ()) -> dg.AssetSpec:
    """The asset of `table` as it is seen before its first run; `tool` is what makes it."""
    return dg.AssetSpec(
        table.name,
        deps=sorted(deps),
        description=table.description,
        group_name=group,
        kinds={tool, os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"]},
        tags=PERSONAL if any(column.personal for column in table.columns) else {},
        metadata={"dagster/column_schema": table_schema(table), "dagster/table_name": f"{DATASET}.{table.name}"},
    )
