"""The tables that every sync writes about itself, and the views that explain tables and syncs to people."""

from collections.abc import Mapping

from analytics_assets.tables.schema import BOOLEAN, COUNT, ID, JSON, TEXT, TIME, Column, Table

REJECTED_ROWS = Table(
    "rejected_rows",
    "One row of the API that the last complete sync of its resource could not read. It is in no other table, or in an "
    "older version.",
    (
        Column("resource", TEXT, "Resource the row belongs to.", nullable=False),
        Column("id", ID, "Identifier given by the API, if it could be read."),
        Column("reason", TEXT, "Which columns could not be read, and as what.", nullable=False),
        Column("page", COUNT, "Page of the answers the row stood on, from 1.", nullable=False),
        Column("row", JSON, "The row as the API gave it.", personal=True, nullable=False),
        Column("synced_at", TIME, "Start of the sync that set the row aside.", nullable=False),
    ),
)
SYNCS = Table(
    "syncs",
    "One row per complete sync of a resource.",
    (
        Column("resource", TEXT, "Resource that was read.", nullable=False),
        Column("started_at", TIME, "When the reading began; `_last_seen_at` of the rows it saw.", nullable=False),
        Column("finished_at", TIME, "When the rows had been loaded.", nullable=False),
        Column(
            "window_start",
            TIME,
            "Where only rows of a window of dates were read, the beginning of that; such a sync sees neither deletions "
            "nor later changes of older rows. Null where the whole resource was read.",
        ),
        Column("row_count", COUNT, "Rows the API gave, an id that came twice counted once.", nullable=False),
        Column("rejected", COUNT, "Rows that could not be read.", nullable=False),
        Column("deleted", COUNT, "Rows of the table found to be deleted.", nullable=False),
        Column("pages", COUNT, "Pages that were read.", nullable=False),
        Column(
            "resumed_pages",
            COUNT,
            "Of these, pages that a sync which was broken off had read; such a sync infers no deletions.",
        ),
        Column(
            "calls",
            COUNT,
            "Requests that were sent, repeated ones included, by the try that succeeded.",
            nullable=False,
        ),
    ),
)
LEDGER: Mapping[str, Table] = {table.name: table for table in (REJECTED_ROWS, SYNCS)}

DATA_DICTIONARY = Table(
    "data_dictionary",
    "One row per column of any table or view.",
    (
        Column("table_name", TEXT, "Table or view that has the column.", nullable=False),
        Column("column_name", TEXT, "Name of the column.", nullable=False),
        Column("type", TEXT, "Type of its values.", nullable=False),
        Column("meaning", TEXT, "What its values mean.", nullable=False),
        Column("source", TEXT, "Where its values come from.", nullable=False),
        Column("personal_data", BOOLEAN, "Whether its values are personal data.", nullable=False),
    ),
)
SYNC_LOG = Table(
    "sync_log",
    "One row per complete sync of a resource. The table syncs has more of it.",
    tuple(
        column
        for column in SYNCS.columns
        if column.name in ("resource", "finished_at", "window_start", "row_count", "rejected", "deleted", "calls")
    ),
)
VIEWS: Mapping[str, Table] = {view.name: view for view in (DATA_DICTIONARY, SYNC_LOG)}
