"""What Dagster sees, and what its UI shows.

`ingestion`, `marts` and `reference` are the assets, `checks` what is asked of their rows, `automation` the jobs,
schedules and sensors. `catalog` and `trust` describe an asset, `column_profile`, `glance` and `picture` make what its
page shows, `report` what a terminal shows. `checked` refuses wrong settings before anything starts. `history` asks
Dagster what has happened; `event_log` keeps its files open, which saves 1.7 seconds of processor time per run.
"""
