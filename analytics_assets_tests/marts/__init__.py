"""The SQL of the marts, and the lineage read from it."""
