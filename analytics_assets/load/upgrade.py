"""Brings a warehouse of version 1 up to date: there, each sync wrote every row, with the time in `_last_seen_at`."""

import re

import sqlglot
import sqlglot.expressions as exp
from dlt.destinations.exceptions import DatabaseException

from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.statements import columns, exists
from analytics_assets.tables.bookkeeping import SYNCS
from analytics_assets.tables.schema import CHANGED_AT, OWN, Table

OLD = "_last_seen_at"
# Views that read the column, with the names of their columns, of which a broken view still has those from before.
VIEWS = f"""
SELECT format('"{{}}"."{{}}"', schema_name, view_name) AS name, sql, replace(v.comment, '''', '''''') AS comment,
    (SELECT string_agg(format('"{{}}"', replace(column_name, '"', '""')), ', ' ORDER BY column_index)
     FROM duckdb_columns() AS c WHERE c.table_oid = v.view_oid AND c.database_oid = v.database_oid) AS names
FROM duckdb_views() AS v WHERE NOT internal AND database_name = current_database() AND contains(sql, '{OLD}')
ORDER BY view_oid
"""


def upgrade(client: SqlClient, table: Table) -> None:
    """Rename the column, since it admits no null and would refuse new rows; views that read it are kept."""
    there = columns(client, f"SELECT * FROM {table.name}") if exists(client, table.name) else []
    if OLD in {name.lower() for name, _ in there}:
        with client.begin_transaction():
            client.execute_sql(f"ALTER TABLE {table.name} RENAME COLUMN {OLD} TO {CHANGED_AT}")
            with client.with_staging_dataset():
                staging = client.make_qualified_table_name(table.name, quote=False)
            client.execute_sql(f"DROP TABLE IF EXISTS {staging}")  # dlt creates it again


def mend_views(client: SqlClient) -> None:
    """Have views that the renaming has broken read the column by its new name; the names that they list stay.

    A view that cannot be mended yet, such as one that reads the column of another resource too, is left as it is.
    """
    if client.capabilities.sqlglot_dialect != OWN:  # a server's views follow the column
        return
    for name, statement, comment, names in client.native_connection.execute(VIEWS).fetchall():
        if _works(client, f"SELECT * FROM {name} LIMIT 0"):
            continue
        query = re.sub(r"(?s)^CREATE VIEW .*?\sAS\s", "", re.sub(rf"\b{OLD}\b", CHANGED_AT, statement), count=1)
        has_star = sqlglot.parse_one(query, dialect=OWN).find(exp.Star)  # which returns other columns from now on
        own = "" if has_star else f" ({names})"
        if _works(client, f"CREATE OR REPLACE VIEW {name}{own} AS {query}") and comment:
            client.execute_sql(f"COMMENT ON VIEW {name} IS '{comment}'")


def _works(client: SqlClient, statement: str) -> bool:
    """Whether the statement can be executed; call it outside of transactions, which an error would end."""
    try:
        client.execute_sql(statement)
    except DatabaseException:
        return False
    return True


def number(client: SqlClient) -> None:
    """Number the syncs that have no number, in the order of their times, which is all that is known of them."""
    earlier = f"SELECT count(*) FROM {SYNCS.name} AS s WHERE s.resource = {SYNCS.name}.resource AND s.started_at <= "
    client.execute_sql(f"UPDATE {SYNCS.name} SET number = ({earlier} {SYNCS.name}.started_at) WHERE number IS NULL")
