"""The tables in which every sync records itself, and the views that describe tables and syncs."""

from collections.abc import Mapping

from analytics_assets.tables.schema import BOOLEAN, COUNT, ID, JSON, NUMBER, TEXT, TIME, Column, Table

REJECTED_ROWS = Table(
    "rejected_rows",
    "One row per row of the API that the last complete sync could not read. The resource's table lacks it, or has an "
    "older version of it.",
    (
        Column("resource", TEXT, "Resource the row belongs to.", nullable=False),
        Column("id", ID, "Identifier given by the API, if it could be read."),
        Column("reason", TEXT, "Which columns could not be read, and as what.", nullable=False),
        Column("page", COUNT, "Page of the API on which the row was, from 1.", nullable=False),
        Column("row", JSON, "The row as the API returned it.", personal=True, nullable=False),
        Column("synced_at", TIME, "Start of the sync that rejected the row.", nullable=False),
        Column("rejected_in", COUNT, "Number of that sync in `syncs`."),
    ),
)
SYNCS = Table(
    "syncs",
    "One row per complete sync of a resource. Times are by the clock of the API, if it sends one.",
    (
        Column("resource", TEXT, "Resource that was read.", nullable=False),
        Column("number", COUNT, "Number of the sync among those of the resource, from 1."),
        Column("started_at", TIME, "Start of the sync; the `_changed_at` of the rows it wrote.", nullable=False),
        Column("finished_at", TIME, "When its rows were loaded.", nullable=False),
        Column(
            "window_start",
            TIME,
            "Start of the date window, if only that was read; null if the whole resource was read. A sync of a window "
            "sees neither deletions nor later changes of older rows.",
        ),
        Column("row_count", COUNT, "Rows the API returned; a repeated id counts once.", nullable=False),
        Column("rejected", COUNT, "Rows that could not be read.", nullable=False),
        Column("deleted", COUNT, "Rows found to be deleted.", nullable=False),
        Column("added", COUNT, "Rows that were new."),
        Column("changed", COUNT, "Rows that had changed, or came back after a deletion."),
        Column("pages", COUNT, "Pages read.", nullable=False),
        Column("resumed_pages", COUNT, "Of these, kept from an interrupted sync; with any, no deletions are inferred."),
        Column("calls", COUNT, "Requests sent by the successful try, including retries.", nullable=False),
        Column("api", TEXT, "Address from which the resource was read."),
        Column(
            "clock_ahead",
            NUMBER,
            "Seconds by which the machine's clock was ahead of the API's; 0 if less than a minute, null if unknown.",
        ),
    ),
)
MISSING_IDS = Table(
    "missing_ids",
    "One row per id that the last full sync has not seen. If the next does not see it either, the row counts as "
    "deleted.",
    (
        Column("resource", TEXT, "Resource the id belongs to.", nullable=False),
        Column("id", ID, "Identifier given by the API.", nullable=False),
        Column(
            "missing_since",
            COUNT,
            "Number of the sync in `syncs` that missed it; 0 if that sync cannot tell what is deleted.",
            nullable=False,
        ),
    ),
)
LEDGER: Mapping[str, Table] = {table.name: table for table in (REJECTED_ROWS, SYNCS, MISSING_IDS)}

DATA_DICTIONARY = Table(
    "data_dictionary",
    "One row per column of any table or view.",
    (
        Column("table_name", TEXT, "Table or view that has the column.", nullable=False),
        Column("column_name", TEXT, "Name of the column.", nullable=False),
        Column("type", TEXT, "Type of its values.", nullable=False),
        Column("meaning", TEXT, "What its values mean.", nullable=False),
        Column("source", TEXT, "Origin of its values.", nullable=False),
        Column("personal_data", BOOLEAN, "Whether its values are personal data.", nullable=False),
    ),
)
SHOWN = (
    *("resource", "number", "finished_at", "window_start"),
    *("row_count", "added", "changed", "deleted", "rejected", "calls"),
)
SYNC_LOG = Table(
    "sync_log",
    "One row per complete sync of a resource. The table `syncs` has more columns.",
    tuple(column for column in SYNCS.columns if column.name in SHOWN),
)
VIEWS: Mapping[str, Table] = {view.name: view for view in (DATA_DICTIONARY, SYNC_LOG)}
