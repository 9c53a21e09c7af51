"""The history of a resource: a row per state of each of its rows, written with the entry of the sync that saw it."""

from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import index
from analytics_assets.tables.resources import HISTORIES
from analytics_assets.tables.schema import CHANGED_IN, DELETED_AT, Table
from analytics_assets.tables.sync import Sync


def write(client: SqlClient, table: Table, sync: Sync) -> None:
    """End the states of the rows that the sync has changed or deleted, and begin those that it has found.

    If there is not a state for every row after that, as in a new history or after somebody has removed rows, states
    begin and end for all rows.
    """
    history = HISTORIES.get(table.name)
    if history is None:
        return
    _write(client, table, history, sync, f"now.{CHANGED_IN} = {sync.number}")
    states = f"SELECT count(*) FROM {history.name} WHERE to_sync IS NULL"
    rows = f"SELECT count(*) FROM {table.name} WHERE {DELETED_AT} IS NULL"
    if client.execute_sql(states) != client.execute_sql(rows):
        client.execute_sql(
            f"UPDATE {history.name} SET {ENDED} WHERE to_sync IS NULL "
            f"AND NOT EXISTS (SELECT 1 FROM {table.name} AS now WHERE now.id = {history.name}.id)",
            *(sync.started_at, sync.started_at, sync.number),
        )
        _write(client, table, history, sync, "true")
    index(client, history.name, "id")
    index(client, table.name, CHANGED_IN)


# A clock that was set back must not end a state before it began, nor begin the next one before that end.
ENDED = "valid_to = CASE WHEN valid_from > ? THEN valid_from ELSE ? END, to_sync = ?"
BEGUN = "coalesce((SELECT max(valid_to) FROM {} AS past WHERE past.id = now.id AND past.valid_to > ?), ?)"


def _write(client: SqlClient, table: Table, history: Table, sync: Sync, written: str) -> None:
    """End and begin states of the rows of the table for which `written` is true."""
    names = {column.name for column in table.columns}
    tracked = [f'"{column.name}"' for column in history.columns if column.name in names]
    differs = " OR ".join(f"state.{name} IS DISTINCT FROM now.{name}" for name in tracked)
    client.execute_sql(
        f"UPDATE {history.name} SET {ENDED} WHERE to_sync IS NULL AND id IN ("
        f"SELECT now.id FROM {table.name} AS now JOIN {history.name} AS state ON state.id = now.id "
        f"AND state.to_sync IS NULL WHERE {written} AND (now.{DELETED_AT} IS NOT NULL OR {differs}))",
        *(sync.started_at, sync.started_at, sync.number),
    )
    client.execute_sql(
        f"INSERT INTO {history.name} ({', '.join(tracked)}, valid_from, from_sync) "
        f"SELECT {', '.join(f'now.{name}' for name in tracked)}, {BEGUN.format(history.name)}, CAST(? AS BIGINT) "
        f"FROM {table.name} AS now WHERE {written} AND now.{DELETED_AT} IS NULL "
        f"AND NOT EXISTS (SELECT 1 FROM {history.name} AS state WHERE state.id = now.id AND state.to_sync IS NULL)",
        *(sync.started_at, sync.started_at, sync.number),
    )
