"""What each table is: its columns and their types, and what follows from them for dlt, Arrow and SQL.

`resources`, `marts` and `bookkeeping` declare the tables in the terms of `schema`; `sync` describes one reading of one
resource.
"""
