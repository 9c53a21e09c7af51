"""The six resources as assets. Each is its own `@dlt_assets` op and can fail, be retried and be repeated alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
from dagster_dlt import DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData
from dlt import Pipeline

from analytics_assets.defs import history, run_plan, sync_metadata
from analytics_assets.defs.catalog import API_GROUP, asset_spec
from analytics_assets.defs.explained import explained, spares_pages
from analytics_assets.extract.reader import Reader
from analytics_assets.extract.source import Source
from analytics_assets.load import entry, ledger
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.settings import Settings
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table

WINDOWED = (
    "Between the weekly full syncs (`reconciliation_schedule`) only rows that the API dates since the last sync are "
    "read. Later changes of older rows, and deletions, show after the next full sync."
)


@dataclass
class Translator(DagsterDltTranslator):
    """Makes the asset spec of a resource; dagster-dlt's own translator would invent an upstream asset."""

    settings: Settings
    warehouse: Warehouse

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        table = RESOURCES[data.resource.name]
        spec = asset_spec(table, API_GROUP, "dlt", self.warehouse)
        has_window = table.name in self.settings.api_windows
        return spec.replace_attributes(description=f"{spec.description} {WINDOWED}") if has_window else spec


def assets(settings: Settings, warehouse: Warehouse) -> Sequence[dg.AssetsDefinition]:
    """An asset per resource."""
    return [_asset(table, settings, warehouse) for table in RESOURCES.values()]


def _asset(table: Table, settings: Settings, warehouse: Warehouse) -> dg.AssetsDefinition:
    source = Source(table, settings)

    # No pipeline here: creating one writes to the disk, and importing must not.
    @dlt_assets(
        dlt_source=source.dlt,
        dlt_pipeline=cast(Pipeline, None),
        name=table.name,
        op_tags={"dagster/priority": str(int(table.refers))},  # the order in which `reader` reads
        dagster_dlt_translator=Translator(settings, warehouse),
    )
    def load(
        context: dg.AssetExecutionContext,
        config: run_plan.SyncConfig,  # only declared here: `run_plan` reads the config of all resources
        settings: dg.ResourceParam[Settings],
        warehouse: dg.ResourceParam[Warehouse],
        reader: dg.ResourceParam[Reader],
    ) -> dg.MaterializeResult[Any]:
        with explained(context, table, warehouse) as known:
            before = history.last_materialization(context.instance, table.name)
            with warehouse.connection() as client:
                known["held"] = ledger.held(client, table)
                if tables := reader.due(table, run_plan.tables_due(context)):
                    ledger.prepare(client, tables)
                for due in tables:
                    reader.begin(due, run_plan.sync(context, due, settings, ledger.last_sync(client, due)))
            if not reader.has_lock(table):
                warehouse.release()  # another run may have it for long
            # dlt's three steps instead of dagster-dlt's one, which would lock the warehouse for all of them.
            with (
                reader.read(table, spares_pages) as reading,
                warehouse.changes(reading) as changes,
                warehouse.pipeline(table.name) as pipeline,
            ):
                if not reading.is_at_hand:
                    warehouse.release()  # reading and typing many rows takes long
                if is_any := changes.is_any():
                    with source.of(changes) as batches:
                        pipeline.extract(batches, loader_file_format="parquet")
                with warehouse.writing():
                    with warehouse.connection() as client:
                        changes.check(client)
                    load_id = "none, since no row has changed"
                    if is_any:
                        pipeline.normalize()
                        load_id = pipeline.load().loads_ids[0]
                    with warehouse.connection() as client:
                        counts = entry.enter(client, table, changes)
            known |= {"done": "was loaded, but its metadata could not be read", "held": "Its rows are complete."}
            with warehouse.connection() as client:
                described = sync_metadata.of(client, table, changes, counts, settings, before)
        return dg.MaterializeResult(asset_key=table.name, metadata={**described, "load_id": load_id})

    return load
