"""What the warehouse knows of earlier syncs: their numbers, the last one, and the rows that it holds.

The numbers, and no clock, say which sync was first. `entry` writes what this module reads.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dlt.common.schema.typing import VERSION_TABLE_NAME

from analytics_assets.load import upgrade
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.failures import Overtaken
from analytics_assets.load.statements import columns, exists, make, make_dataset
from analytics_assets.tables.bookkeeping import LEDGER, SYNCS
from analytics_assets.tables.resources import HISTORIES
from analytics_assets.tables.schema import CHANGED_IN, Table
from analytics_assets.tables.sync import FEW, Sync


class LastSync(NamedTuple):
    """Rows and pages of the last full sync of a resource; number, start and API of its last sync, full or by window."""

    row_count: int = 0
    pages: int = 0
    number: int = 0
    started_at: datetime | None = None
    clock_ahead: float | None = None
    api: str | None = None

    @property
    def window_start(self) -> datetime | None:
        """A time before which the sync has seen all rows, by the earlier of two clocks: the machine's and the API's.

        None if the API did not send its time, or if there was no sync.
        """
        if self.started_at is None or self.clock_ahead is None:
            return None
        return self.started_at + timedelta(seconds=min(0.0, self.clock_ahead))


def prepare(client: SqlClient, tables: Iterable[Table]) -> None:
    """Create what syncs of these tables fill besides them, and upgrade tables of an older version.

    If the table of a resource has been dropped, or lacks a column, dlt's record of it is removed: dlt believes that
    record, and would not create the table again.
    """
    make_dataset(client)
    with client.begin_transaction():
        for book in (*LEDGER.values(), *HISTORIES.values()):
            make(client, book)
        upgrade.number(client)
    for table in tables:
        upgrade.upgrade(client, table)
        if not has_all_columns(client, table) and exists(client, VERSION_TABLE_NAME):
            client.execute_sql(f"DELETE FROM {VERSION_TABLE_NAME} WHERE schema_name = ?", table.name)
    upgrade.mend_views(client)


def last_sync(client: SqlClient, table: Table) -> LastSync:
    """The last syncs of the resource in `syncs`; the defaults if there was none.

    If `syncs` has been emptied, numbers go on where those in the rows end, which may be of a sync without an entry.
    """
    of, newest_first = f"FROM {SYNCS.name} WHERE resource = ?", "ORDER BY number DESC LIMIT 1"
    full = client.execute_sql(f"SELECT row_count, pages {of} AND window_start IS NULL {newest_first}", table.name)
    last = client.execute_sql(f"SELECT number, started_at, clock_ahead, api {of} {newest_first}", table.name)
    [(rows, pages)] = full or [(0, 0)]
    return LastSync(rows, pages, *(last[0] if last else [max(last_loaded(client, table) - 1, 0)]))


def last_loaded(client: SqlClient, table: Table) -> int:
    """The highest number of a sync that has written a row; 0 if there is none."""
    if not has_all_columns(client, table):
        return 0
    [(highest,)] = client.execute_sql(f"SELECT max({CHANGED_IN}) FROM {table.name}") or []
    return int(highest or 0)


def least_rows(last: LastSync, shrinking_share: float) -> int:
    """The fewest rows the next full sync may have: this share fewer than the last one, or ten fewer."""
    return max(0, last.row_count - max(FEW, int(last.row_count * shrinking_share)))


def check(client: SqlClient, table: Table, sync: Sync) -> None:
    """Raise `Overtaken` if another sync of the resource was entered since this one began, or `OtherApi`."""
    last = last_sync(client, table)
    if sync.number != last.number + 1:
        raise Overtaken(f"another sync of {table.name} was loaded while this one was reading")
    sync.check_api(last.api)


def has_all_columns(client: SqlClient, table: Table) -> bool:
    """Whether the table exists and has all declared columns."""
    if not exists(client, table.name):
        return False
    there, fold = dict(columns(client, f"SELECT * FROM {table.name}")), client.capabilities.casefold_identifier
    return {fold(column.name) for column in table.columns} <= there.keys()


def held(client: SqlClient, table: Table) -> str:
    """The number of rows that the table holds and their time, in a sentence; also before an upgrade."""
    if not exists(client, table.name):
        return "It has never been loaded."
    [(rows,)] = client.execute_sql(f"SELECT count(*) FROM {table.name}") or []
    last = f"SELECT finished_at FROM {SYNCS.name} WHERE resource = ? ORDER BY number DESC LIMIT 1"
    loaded = client.execute_sql(last, table.name) if has_all_columns(client, SYNCS) else None
    when = f" of {loaded[0][0].astimezone(UTC):%Y-%m-%d %H:%M} UTC" if loaded else ""
    return f"The table still holds {rows} rows{when}."
