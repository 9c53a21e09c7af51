"""The reference assets: the views `data_dictionary` and `sync_log`, and the published copy.

`dictionary` has the SQL of the views; `published` decides what is in the copy.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import dagster as dg

from analytics_assets.defs import column_profile, history
from analytics_assets.defs.catalog import PERSONAL, REFERENCE_GROUP, asset_spec, reading, table_schema
from analytics_assets.load import ledger, published, statements
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.marts import dictionary, lineage
from analytics_assets.settings import Settings
from analytics_assets.tables.bookkeeping import DATA_DICTIONARY, LEDGER, SYNC_LOG, SYNCS, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import Table

TABLES = (*RESOURCES.values(), *HISTORIES.values(), *MARTS.values(), *LEDGER.values())
FIND = "To find one, type a part of its name into *Filter columns*. Columns with personal data are listed below."
LAST_SYNCS = (
    f"SELECT resource, window_start, finished_at, row_count, rejected FROM {SYNC_LOG.name} AS log WHERE number = "
    f"(SELECT max(number) FROM {SYNC_LOG.name} AS others WHERE others.resource = log.resource) ORDER BY resource"
)


def _every_column() -> Iterator[dg.TableColumn]:
    """The columns of all tables by their full names, each with its source and a link to the page of its table."""
    for table in (*TABLES, *VIEWS.values()):
        asset = lineage.FILLED_BY.get(table.name, table.name if table.name in VIEWS else "")
        page = f" See [{asset}](/assets/{asset})." if asset else ""
        for column, shown in zip(table.columns, table_schema(table).columns, strict=True):
            text = f"{column.description} From {dictionary.source(table, column)}.{page}"
            text = text.replace("_history.", "_history.\u200b")  # lets a browser break the longest names
            yield dg.TableColumn(f"{table.name}.{column.name}", shown.type, text, shown.constraints, shown.tags)


def _personal() -> str:
    """The personal data of each table, as a list: a laptop would cut off the names in a table."""
    names = {table.name: [column.name for column in table.columns if column.personal] for table in TABLES}
    return "\n".join(f"- {name}: {', '.join(columns)}" for name, columns in names.items() if columns)


def _asset(view: Table, spec: dg.AssetSpec) -> dg.AssetsDefinition:
    @dg.multi_asset(name=view.name, specs=[spec])
    def make(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[Any]:
        with warehouse.connection() as client:
            if not ledger.has_all_columns(client, SYNCS):  # before the first sync, also of this version
                statements.make_dataset(client)
                statements.make(client, SYNCS)
            query = dict(dictionary.views(TABLES))[view]
            statements.make_view(client, view, query)
            [(rows,)] = client.execute_sql(f"SELECT count(*) FROM {view.name}") or [(0,)]
            metadata = _last_syncs(client) if view is SYNC_LOG else {}
            name = statements.full_name(client, view)
        return dg.MaterializeResult(metadata={**metadata, "dagster/row_count": rows, "dagster/table_name": name})

    return make


def _last_syncs(client: SqlClient) -> dict[str, Any]:
    """The last sync of each resource as a table, and the number of rows that they rejected."""
    last = client.execute_sql(LAST_SYNCS) or []
    lines = [
        (
            [
                f"{name}, since {since.astimezone(UTC):%d %b}" if since else name,
                f"{time.astimezone(UTC):%Y-%m-%d %H:%M}".replace("-", column_profile.UNBROKEN_HYPHEN),
            ],
            counts,
        )
        for name, since, time, *counts in last
    ]
    header = "resource|at (UTC)|rows|rejected"
    return {
        "last_syncs": dg.MetadataValue.md(column_profile.inline(header, lines)),
        "rejected_rows": sum(rejected for *_, rejected in last),
    }


def _published_database(warehouse: Warehouse) -> dg.AssetsDefinition:
    @dg.asset(
        deps=[*RESOURCES, *MARTS],
        group_name=REFERENCE_GROUP,
        description="One file for analysts with every table. It is replaced in one step, and no load ever locks it.",
        kinds={"duckdb"},
        tags=PERSONAL,
        metadata={"read_it": dg.MetadataValue.path(reading(DATA_DICTIONARY.name, warehouse))},
        automation_condition=history.follow_parents,
    )
    def published_database(
        settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult[Any]:
        started, file = time.monotonic(), warehouse.published_file
        assert file
        key = settings.masking_key.get_secret_value().encode() if settings.masking_key else None
        rows = published.publish(warehouse, dictionary.views, int(settings.published_mode, 8), key)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": rows,
                "file": dg.MetadataValue.path(str(file)),
                "megabytes": round(file.stat().st_size / 1e6, 1),
                "masked": key is not None,
                "seconds": round(time.monotonic() - started, 2),
            }
        )

    return published_database


def assets(warehouse: Warehouse) -> Sequence[dg.AssetsDefinition]:
    """The two views, and the copy if there is one."""
    columns = {
        "dagster/column_schema": dg.TableSchema([*_every_column()]),
        "personal_data": dg.MetadataValue.md(_personal()),
    }
    words = asset_spec(DATA_DICTIONARY, REFERENCE_GROUP, "sql", warehouse).merge_attributes(metadata=columns)
    log = asset_spec(SYNC_LOG, REFERENCE_GROUP, "sql", warehouse, RESOURCES)
    return [
        _asset(DATA_DICTIONARY, words.replace_attributes(description=f"{DATA_DICTIONARY.description} {FIND}")),
        _asset(SYNC_LOG, log.replace_attributes(automation_condition=history.follow_parents)),
        *([_published_database(warehouse)] if warehouse.published_file else []),
    ]
