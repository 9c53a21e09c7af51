"""Six resources of a learning platform's REST API as Dagster assets, loaded with dlt and joined for analysts.

The way of the data: `extract` reads the API and makes typed batches of its answers. `warehouse` takes the rows, told in
its own SQL by `dialect`, `ledger` enters the sync, `marts` join the tables, `lineage` tells what comes from where in
them and `picture` draws it, and `published` is the copy that analysts read, `dictionary` the views that explain both.
`assets`, `catalog`, `profile`, `reference`, `checks`, `trust` and `automation` show all of it to Dagster, whose
`history` they ask, and whose files `event_log` keeps open. `schema` says what each table is.
"""

from analytics_assets import settings

settings.load()  # here, so that no way of starting is without it: both dlt and Dagster read it when imported
