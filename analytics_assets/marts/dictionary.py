"""The views `data_dictionary`, with every column and its source, and `sync_log`, with every sync.

The warehouse and the published copy each have both views, which describe the tables beside them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import sqlglot.expressions as sql

from analytics_assets.marts import lineage
from analytics_assets.tables.bookkeeping import DATA_DICTIONARY, SYNC_LOG, SYNCS, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import ADDED, DATASET, OWN, Column, Table


def views(tables: Iterable[Table]) -> Iterator[tuple[Table, str]]:
    """Each view over `tables`, and the SQL that returns its rows; `sync_log` only if `syncs` is among them."""
    described = [*tables, DATA_DICTIONARY]
    if syncs := next((table for table in described if table.name == SYNCS.name), None):
        # Until the first sync of a new version, `syncs` may lack columns.
        log = replace(SYNC_LOG, columns=tuple(column for column in SYNC_LOG.columns if column in syncs.columns))
        described.append(log)
        yield log, f"SELECT {', '.join(column.name for column in log.columns)} FROM {DATASET}.{SYNCS.name}"
    rows = [
        (table.name, column.name, column.type.label, column.description, source(table, column), column.personal)
        for table in described
        for column in table.columns
    ]
    values = sql.values(rows, "d", [column.name for column in DATA_DICTIONARY.columns])
    yield DATA_DICTIONARY, sql.select("*").from_(values).sql(OWN)


def source(table: Table, column: Column) -> str:
    """Where the values of a column come from, in words."""
    name = column.name
    if table.name in RESOURCES and name not in ADDED:
        return f"the API's field `{name}`" + (f", else the id in `{lifted}`" if (lifted := column.lifted_from) else "")
    if table.name in MARTS:
        return lineage.of(table.name).origin(name)
    if table.name in VIEWS:
        return f"`{SYNCS.name}.{name}`" if table.name == SYNC_LOG.name else "the declaration of the tables"
    for resource, history in HISTORIES.items():
        if table.name == history.name and name in RESOURCES[resource].fields:
            return f"`{resource}.{name}`"
    return "the sync"
