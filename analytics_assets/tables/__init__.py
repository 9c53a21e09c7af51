"""What each table is: its columns and their types, and what follows from them for dlt, Arrow, SQL and documents.

`schema` declares the six resources, the marts and the bookkeeping; `sync` describes one reading of one resource.
"""
