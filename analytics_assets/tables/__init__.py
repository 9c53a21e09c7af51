"""What each table is: its columns and their types, and what follows from them for dlt, Arrow, SQL and documents.

`resources`, `marts` and `bookkeeping` declare the tables in the terms of `schema`, and `document` prints them. `sync`
describes one reading of one resource.
"""
