"""Tables made from other tables: one SQL file per mart.

`lineage` reads the sources of each column from the SQL; `dictionary` has the views that describe columns and syncs.
"""
