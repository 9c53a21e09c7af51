"""What Dagster runs, and what its UI shows.

`ingestion`, `marts` and `reference` have the assets, `checks` the asset checks, `automation` the jobs and schedules,
`sensors` the sensors. `catalog` and `trust` describe an asset; `sync_metadata`, `column_profile`, `glance` and
`picture` make what its page shows, and `report` what a terminal shows. `run_plan` says what a run reads, `explained`
what happens after an error. `dagster_resources` gives settings, warehouse and reader to ops; `checked_settings` refuses
wrong settings before anything starts. `history` reads Dagster's history, and `event_log` keeps its files open.
`dagster_private` has all imports of Dagster's private modules.
"""
