"""Tables made from other tables: one SQL file per mart, and what can be read from it.

`lineage` finds out which columns come from which; `dictionary` has the views that explain every table and sync.
"""
