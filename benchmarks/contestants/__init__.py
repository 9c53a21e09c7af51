"""Programs that load the six resources into DuckDB: one file each, `python -m ... URL TOKEN FILE`.

Each makes what belongs to its run beside FILE, may be run again on the same FILE, and prints as its last line what
`clock` measured. What they share needs no library: two run on a Python that has none of the project's.
"""
