"""A declared table in Dagster's catalog: description, grain, columns, kinds, tags."""

from collections.abc import Iterable

import dagster as dg

from analytics_assets.load.warehouse import Warehouse
from analytics_assets.marts.lineage import FILLED_BY, Lineage, Source
from analytics_assets.settings import ROOT
from analytics_assets.tables.schema import DATASET, Column, Table

PERSONAL = {"personal_data": ""}
API_GROUP = "analytics_api"
MARTS_GROUP = "marts"
REFERENCE_GROUP = "reference"  # in the marts' group it would pull their box in the lineage apart


def table_schema(table: Table) -> dg.TableSchema:
    """The columns of `table` with type, description, constraints and, for personal data, a tag; and its grain."""
    has_key = FILLED_BY.get(table.name) == table.name

    def column(c: Column) -> dg.TableColumn:
        unique = has_key and table.whole_key == [c.name]
        constraints = dg.TableColumnConstraints(nullable=c.nullable, unique=unique)
        return dg.TableColumn(c.name, c.type.label, c.description, constraints, PERSONAL if c.personal else {})

    return dg.TableSchema([column(c) for c in table.columns], dg.TableConstraints([table.grain]))


def column_lineage(read: Lineage) -> dict[str, dg.TableColumnLineage]:
    """The sources of a mart's columns, for tools that ask Dagster for them; its own UI does not show them.

    A column of a history belongs to the asset that fills it. Those of `syncs` belong to none.
    """

    def dep(source: Source) -> dg.TableColumnDep:
        asset = FILLED_BY[source.table]
        return dg.TableColumnDep(dg.AssetKey(asset), source.column if asset == source.table else ".".join(source))

    deps = {
        column: [dep(source) for source in sources if source.table in FILLED_BY]
        for column, sources in read.columns.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def asset_spec(table: Table, group: str, tool: str, warehouse: Warehouse, deps: Iterable[str] = ()) -> dg.AssetSpec:
    """The asset of `table` as shown before its first run; `tool` is the tool that makes it."""
    return dg.AssetSpec(
        table.name,
        deps=sorted(deps),
        description=table.description,
        group_name=group,
        kinds={tool, warehouse.kind},
        tags=PERSONAL if any(column.personal for column in table.columns) else {},
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/table_name": f"{DATASET}.{table.name}",
            "read_it": dg.MetadataValue.path(reading(table.name, warehouse)),  # the only kind that a click copies
        },
    )


def reading(name: str, warehouse: Warehouse) -> str:
    """A line of Python, for the project's folder, that reads this table from the published copy; SQL on a server.

    A word longer than a short path would widen the page's column and cut off the rest of it.
    """
    file = warehouse.published_file
    if file is None:
        return f"SELECT * FROM {DATASET}.{name}"
    path = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return f"import duckdb; duckdb.connect({str(path)!r}, read_only=True).sql('FROM {DATASET}.{name}')"
