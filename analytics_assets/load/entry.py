"""What a complete sync records besides its rows: rejected rows, deletions, states, and its entry in `syncs`.

All of it is written after the load, in one transaction, so an incomplete sync has no entry and infers nothing.
"""

from typing import NamedTuple

from analytics_assets.load import ledger, states
from analytics_assets.load.changes import Changes
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import comment, index, insert, insert_ids
from analytics_assets.tables.bookkeeping import MISSING_IDS, REJECTED_ROWS, SYNCS
from analytics_assets.tables.schema import CHANGED_AT, CHANGED_IN, DELETED_AT, Table
from analytics_assets.tables.sync import Sync


class Counts(NamedTuple):
    """Rows in the table; of these soft-deleted, and soft-deleted by this sync."""

    total: int
    deleted: int
    newly_deleted: int


def enter(client: SqlClient, table: Table, changes: Changes) -> Counts:
    """Record a sync that has just been loaded. Raises `Overtaken`, if the lock of the warehouse was lost meanwhile."""
    sync = changes.sync
    with client.begin_transaction():
        ledger.check(client, table, sync)
        comment(client, table)
        index(client, table.name, table.key)
        _reject(client, table, changes)
        _find_deleted(client, table, changes)
        states.write(client, table, sync)
        counts = _counts(client, table, sync)
        insert(
            client,
            SYNCS,
            resource=table.name,
            number=sync.number,
            started_at=sync.started_at,
            finished_at=sync.now(),
            window_start=sync.window_start,
            row_count=changes.rows + len(sync.rejected),
            rejected=len(sync.rejected),
            deleted=counts.newly_deleted,
            added=changes.added,
            changed=changes.changed,
            pages=sync.pages,
            resumed_pages=sync.resumed_pages,
            calls=sync.calls,
            api=sync.api,
            clock_ahead=sync.clock_ahead,
        )
    return counts


def _reject(client: SqlClient, table: Table, changes: Changes) -> None:
    """Replace the rejected rows; after a sync by window, only those that it has read or rejected again."""
    sync, older = changes.sync, f"DELETE FROM {REJECTED_ROWS.name} WHERE resource = ?"
    if sync.window_start is None:
        client.execute_sql(older, table.name)
    else:
        aside = client.execute_sql(f"SELECT id FROM {REJECTED_ROWS.name} WHERE resource = ?", table.name) or []
        for key in changes.came([key for (key,) in aside if key is not None]):
            client.execute_sql(f"{older} AND id = ?", table.name, key)
        for rejected in sync.rejected:
            client.execute_sql(f'{older} AND (id = ? OR "row" = ?)', table.name, rejected.id or "", rejected.row)
    for rejected in sync.rejected:
        noted = {"resource": table.name, "synced_at": sync.started_at, "rejected_in": sync.number}
        insert(client, REJECTED_ROWS, **noted, **rejected._asdict())


def _find_deleted(client: SqlClient, table: Table, changes: Changes) -> None:
    """Soft-delete the rows that neither this nor the last full sync has seen, and note the ids that this one missed.

    One miss is not enough, because rows move between pages during a long reading. A rejected row counts as seen.
    Nothing is inferred while a rejected row has no id, since it may be any row, nor from a resumed sync, since its
    pages were not read in one go.
    """
    sync, forget = changes.sync, f"DELETE FROM {MISSING_IDS.name} WHERE resource = ?"
    for ids in changes.found_again():
        client.execute_sql(f"{forget} AND id IN ({', '.join('?' * len(ids))})", table.name, *ids)
    if sync.window_start:
        return
    is_sure = not (sync.resumed_pages or any(rejected.id is None for rejected in sync.rejected))
    since = sync.number if is_sure else 0
    if is_sure:
        client.execute_sql(
            f"UPDATE {table.name} SET {DELETED_AT} = ?, {CHANGED_AT} = ?, {CHANGED_IN} = ? WHERE {DELETED_AT} IS NULL "
            f"AND coalesce({CHANGED_IN}, 0) < ? "  # a row that this sync has written has come
            f"AND {table.key} IN (SELECT id FROM {MISSING_IDS.name} WHERE resource = ? AND missing_since > 0)",
            *(sync.started_at, sync.started_at, sync.number, sync.number, table.name),
        )
        client.execute_sql(f"{forget} AND missing_since > 0", table.name)
    client.execute_sql(f"UPDATE {MISSING_IDS.name} SET missing_since = ? WHERE resource = ?", since, table.name)
    insert_ids(client, MISSING_IDS, changes.newly_missing(), resource=table.name, missing_since=since)


def _counts(client: SqlClient, table: Table, sync: Sync) -> Counts:
    tally = "coalesce(sum(CASE WHEN {} THEN 1 ELSE 0 END), 0)"
    deleted = f"{DELETED_AT} IS NOT NULL"
    select = ", ".join(("count(*)", tally.format(deleted), tally.format(f"{deleted} AND {CHANGED_IN} = ?")))
    [row] = client.execute_sql(f"SELECT {select} FROM {table.name}", sync.number) or []
    return Counts(*map(int, row))
