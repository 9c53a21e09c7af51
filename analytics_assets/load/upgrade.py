"""Brings a warehouse of version 1 up to date: there, each sync wrote every row, with the time in `_last_seen_at`."""

from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import columns, exists
from analytics_assets.tables.bookkeeping import SYNCS
from analytics_assets.tables.schema import CHANGED_AT, DATASET, OWN, Table

OLD = "_last_seen_at"


def upgrade(client: SqlClient, table: Table) -> None:
    """Rename the column, since it admits no null and would refuse new rows; views that read it are kept."""
    there = columns(client, f"SELECT * FROM {table.name}") if exists(client, table.name) else []
    if OLD not in {name.lower() for name, _ in there}:
        return
    with client.begin_transaction():
        client.execute_sql(f"ALTER TABLE {table.name} RENAME COLUMN {OLD} TO {CHANGED_AT}")
        if client.capabilities.sqlglot_dialect == OWN:  # a server's views follow the column
            views = f"SELECT sql FROM duckdb_views() WHERE schema_name = '{DATASET}' AND contains(sql, '{OLD}')"
            for (statement,) in client.execute_sql(views) or []:
                renamed = statement.replace(OLD, CHANGED_AT).replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
                client.execute_sql(renamed)
        with client.with_staging_dataset():
            staging = client.make_qualified_table_name(table.name, quote=False)
        client.execute_sql(f"DROP TABLE IF EXISTS {staging}")  # dlt creates it again


def number(client: SqlClient) -> None:
    """Number the syncs that have no number, in the order of their times, which is all that is known of them."""
    earlier = f"SELECT count(*) FROM {SYNCS.name} AS s WHERE s.resource = {SYNCS.name}.resource AND s.started_at <= "
    client.execute_sql(f"UPDATE {SYNCS.name} SET number = ({earlier} {SYNCS.name}.started_at) WHERE number IS NULL")
