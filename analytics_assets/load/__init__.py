"""From typed rows to tables.

`warehouse` has the connections, the lock of a DuckDB file and dlt's pipelines; `dialect` translates this project's SQL,
which is DuckDB's, to that of the warehouse; `statements` are the few statements that several modules send. `ledger`
enters what a sync has loaded, and `published` makes the copy that analysts read.
"""
