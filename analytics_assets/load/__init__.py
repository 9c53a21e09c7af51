"""From typed rows to tables.

`warehouse` has the connections and dlt's pipelines, `duckdb_file` the lock of a DuckDB file, and `failures` the meaning
of errors. `dialect` translates DuckDB's SQL, in which this project is written, to the warehouse's; `statements` has the
SQL that several modules share. `changes` finds the rows that a sync has to write; `ledger` knows the syncs before it,
and `entry` records it, with `states` for the history. `upgrade` brings an older warehouse up to date. `published`
writes the copy that analysts read.
"""
