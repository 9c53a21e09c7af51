"""What a complete sync records besides its rows: rejected rows, inferred deletions, and its entry in `syncs`.

All of it is written after the load, in one transaction, so an incomplete sync has no entry and infers nothing.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import columns, comment, exists, insert, make
from analytics_assets.tables.bookkeeping import LEDGER, REJECTED_ROWS, SYNCS
from analytics_assets.tables.schema import DELETED_AT, LAST_SEEN_AT, Table
from analytics_assets.tables.sync import FEW, Sync


class Counts(NamedTuple):
    """Rows in the table; of these in the sync, soft-deleted, and soft-deleted by this sync."""

    total: int
    in_sync: int
    deleted: int
    newly_deleted: int


class LastSync(NamedTuple):
    """Rows and pages of the last full sync of a resource, and the start of its last sync, full or by window."""

    row_count: int = 0
    pages: int = 0
    started_at: datetime | None = None


WHOLE = "resource = ? AND window_start IS NULL ORDER BY started_at DESC LIMIT 1"


def last_sync(client: SqlClient, table: Table) -> LastSync:
    """The last syncs of the resource in `syncs`; the defaults if none was a full sync."""
    if not exists(client, SYNCS.name):
        return LastSync()
    there = {name.lower() for name, _ in columns(client, f"SELECT * FROM {SYNCS.name}")}
    whole = WHOLE if "window_start" in there else WHOLE.replace("window_start", "NULL")  # a table of an older version
    last = f"(SELECT max(started_at) FROM {SYNCS.name} WHERE resource = ?)"
    found = client.execute_sql(f"SELECT row_count, pages, {last} FROM {SYNCS.name} WHERE {whole}", *[table.name] * 2)
    return LastSync(*next(iter(found or []), ()))


def least_rows(last: LastSync, shrinking_share: float) -> int:
    """The fewest rows the next full sync may have: this share fewer than the last one, or ten fewer."""
    return max(0, last.row_count - max(FEW, int(last.row_count * shrinking_share)))


def held(client: SqlClient, table: Table) -> str:
    """The number of rows that the table holds and their time, in a sentence."""
    if not exists(client, table.name):
        return "It has never been loaded."
    [(rows, seen)] = client.execute_sql(f"SELECT count(*), max({LAST_SEEN_AT}) FROM {table.name}") or []
    when = f" of {seen.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if seen else ""
    return f"The table still holds {rows} rows{when}."


def enter(client: SqlClient, table: Table, sync: Sync) -> Counts:
    """Record a sync that has just been loaded."""
    with client.begin_transaction():
        for book in LEDGER.values():
            make(client, book)
        comment(client, table)
        for rejected in sync.rejected:
            insert(client, REJECTED_ROWS, resource=table.name, synced_at=sync.started_at, **rejected._asdict())
        if sync.window_start is None:
            _mark_deleted(client, table, sync)
        _forget_rejected(client, table, sync)
        counts = _counts(client, table, sync)
        insert(
            client,
            SYNCS,
            resource=table.name,
            started_at=sync.started_at,
            finished_at=datetime.now(UTC),
            window_start=sync.window_start,
            row_count=counts.in_sync + len(sync.rejected),
            rejected=len(sync.rejected),
            deleted=counts.newly_deleted,
            pages=sync.pages,
            resumed_pages=sync.resumed_pages,
            calls=sync.calls,
        )
    return counts


def _mark_deleted(client: SqlClient, table: Table, sync: Sync) -> None:
    """Soft-delete the rows that neither this nor the last full sync has seen.

    One miss is not enough, because rows move between pages during a long reading. A rejected row counts as seen.
    Nothing is inferred while a rejected row has no id, since it may be any row, nor from a resumed sync, since its
    pages were not read in one go.
    """
    last = f"SELECT started_at, resumed_pages FROM {SYNCS.name} WHERE {WHOLE}"
    previous, resumed_pages = next(iter(client.execute_sql(last, table.name) or []), (None, 0))
    aside = f"SELECT id FROM {REJECTED_ROWS.name} WHERE resource = ?"
    nameless = client.execute_sql(f"{aside} AND id IS NULL LIMIT 1", table.name)
    if previous is None or resumed_pages or sync.resumed_pages or nameless:
        return
    client.execute_sql(
        f"UPDATE {table.name} SET {DELETED_AT} = ? WHERE {LAST_SEEN_AT} < ? AND {DELETED_AT} IS NULL "
        f"AND {table.key} NOT IN ({aside})",
        *(sync.started_at, previous, table.name),
    )


def _forget_rejected(client: SqlClient, table: Table, sync: Sync) -> None:
    """Delete older rejected rows; after a sync by window, only those that it has read or rejected again."""
    before = f"DELETE FROM {REJECTED_ROWS.name} WHERE resource = ? AND synced_at < ?"
    if sync.window_start is None:
        client.execute_sql(before, table.name, sync.started_at)
        return
    read = f"SELECT {table.key} FROM {table.name} WHERE {LAST_SEEN_AT} = ?"
    again = (
        f"SELECT 1 FROM {REJECTED_ROWS.name} AS now WHERE now.resource = ? AND now.synced_at = ? "
        f'AND (now.id = {REJECTED_ROWS.name}.id OR now."row" = {REJECTED_ROWS.name}."row")'
    )
    started = (table.name, sync.started_at)
    client.execute_sql(f"{before} AND (id IN ({read}) OR EXISTS ({again}))", *started, sync.started_at, *started)


def _counts(client: SqlClient, table: Table, sync: Sync) -> Counts:
    tally = "coalesce(sum(CASE WHEN {} THEN 1 ELSE 0 END), 0)"
    conditions = (f"{LAST_SEEN_AT} = ?", f"{DELETED_AT} IS NOT NULL", f"{DELETED_AT} = ?")
    select = ", ".join(["count(*)", *map(tally.format, conditions)])
    [row] = client.execute_sql(f"SELECT {select} FROM {table.name}", sync.started_at, sync.started_at) or []
    return Counts(*map(int, row))
