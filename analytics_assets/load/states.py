"""The history of a resource: a row per state of each of its rows, written with the entry of the sync that saw it."""

from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import index
from analytics_assets.tables.resources import HISTORIES
from analytics_assets.tables.schema import CHANGED_IN, DELETED_AT, Table
from analytics_assets.tables.sync import Sync


def write(client: SqlClient, table: Table, sync: Sync) -> None:
    """End the states of the rows that the sync has changed or deleted, and begin those that it has found.

    If the history is empty, a state begins for every row that is not deleted.
    """
    history = HISTORIES.get(table.name)
    if history is None:
        return
    is_empty = not client.execute_sql(f"SELECT 1 FROM {history.name} LIMIT 1")
    tracked = [column.name for column in history.columns if column.name in {c.name for c in table.columns}]
    differs = " OR ".join(f"state.{name} IS DISTINCT FROM now.{name}" for name in tracked)
    written = "true" if is_empty else f"now.{CHANGED_IN} = {sync.number}"
    client.execute_sql(
        f"UPDATE {history.name} SET valid_to = ?, to_sync = ? WHERE to_sync IS NULL AND id IN ("
        f"SELECT now.id FROM {table.name} AS now JOIN {history.name} AS state ON state.id = now.id "
        f"AND state.to_sync IS NULL WHERE {written} AND (now.{DELETED_AT} IS NOT NULL OR {differs}))",
        *(sync.started_at, sync.number),
    )
    client.execute_sql(
        f"INSERT INTO {history.name} ({', '.join(tracked)}, valid_from, from_sync) "
        f"SELECT {', '.join(f'now.{name}' for name in tracked)}, CAST(? AS TIMESTAMPTZ), CAST(? AS BIGINT) "
        f"FROM {table.name} AS now WHERE {written} AND now.{DELETED_AT} IS NULL "
        f"AND NOT EXISTS (SELECT 1 FROM {history.name} AS state WHERE state.id = now.id AND state.to_sync IS NULL)",
        *(sync.started_at, sync.number),
    )
    index(client, history.name, "id", "to_sync IS NULL")
    index(client, table.name, CHANGED_IN)
