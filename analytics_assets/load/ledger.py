"""What the warehouse knows of earlier syncs: their numbers, the last one, and the rows that it holds.

The numbers, and no clock, say which sync was first. `entry` writes what this module reads.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from analytics_assets.load import upgrade
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.failures import Overtaken
from analytics_assets.load.statements import columns, exists, make, make_dataset
from analytics_assets.tables.bookkeeping import LEDGER, SYNCS
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import FEW, Sync


class LastSync(NamedTuple):
    """Rows and pages of the last full sync of a resource; number, start and API of its last sync, full or by window.

    `started_at` is None if the start is not by the clock of the API, or if nothing was ever read.
    """

    row_count: int = 0
    pages: int = 0
    number: int = 0
    started_at: datetime | None = None
    api: str | None = None


def prepare(client: SqlClient, table: Table) -> None:
    """Create the tables of the ledger if they do not exist, and upgrade those of an older version."""
    make_dataset(client)
    with client.begin_transaction():
        for book in LEDGER.values():
            make(client, book)
        upgrade.number(client)
    upgrade.upgrade(client, table)


def last_sync(client: SqlClient, table: Table) -> LastSync:
    """The last syncs of the resource in `syncs`; the defaults if there was none."""
    select = "SELECT {} FROM " + f"{SYNCS.name} WHERE resource = ? {{}} ORDER BY number DESC LIMIT 1"
    last = "number, CASE WHEN clock_ahead IS NOT NULL THEN started_at END, api"
    [whole] = client.execute_sql(select.format("row_count, pages", "AND window_start IS NULL"), table.name) or [(0, 0)]
    [newest] = client.execute_sql(select.format(last, ""), table.name) or [(0, None, None)]
    return LastSync(*whole, *newest)


def least_rows(last: LastSync, shrinking_share: float) -> int:
    """The fewest rows the next full sync may have: this share fewer than the last one, or ten fewer."""
    return max(0, last.row_count - max(FEW, int(last.row_count * shrinking_share)))


def check(client: SqlClient, table: Table, sync: Sync) -> None:
    """Raise `Overtaken` if another sync of the resource was entered since this one began, or `OtherApi`."""
    last = last_sync(client, table)
    if sync.number != last.number + 1:
        raise Overtaken(f"another sync of {table.name} was loaded while this one was reading")
    sync.check_api(last.api)


def is_declared(client: SqlClient, table: Table) -> bool:
    """Whether the table exists and has all declared columns."""
    if not exists(client, table.name):
        return False
    there = {name for name, _ in columns(client, f"SELECT * FROM {table.name}")}
    return {client.capabilities.casefold_identifier(column.name) for column in table.columns} <= there


def held(client: SqlClient, table: Table) -> str:
    """The number of rows that the table holds and their time, in a sentence."""
    if not exists(client, table.name):
        return "It has never been loaded."
    [(rows,)] = client.execute_sql(f"SELECT count(*) FROM {table.name}") or []
    last = f"SELECT finished_at FROM {SYNCS.name} WHERE resource = ? ORDER BY number DESC LIMIT 1"
    loaded = client.execute_sql(last, table.name) if exists(client, SYNCS.name) else None
    when = f" of {loaded[0][0].astimezone(UTC):%Y-%m-%d %H:%M} UTC" if loaded else ""
    return f"The table still holds {rows} rows{when}."
