"""What Dagster sees, and what its UI shows.

`ingestion`, `marts` and `reference` are the assets, `checks` the asset checks, `automation` the jobs, schedules and
sensors. `catalog` and `trust` describe an asset; `column_profile`, `glance` and `picture` make what its page shows, and
`report` what a terminal shows. `checked` refuses wrong settings before anything starts. `history` reads Dagster's
history, `event_log` keeps its files open. `dagster_private` has all imports of Dagster's private modules.
"""
