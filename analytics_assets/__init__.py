"""Six resources of a learning platform's REST API as Dagster assets, loaded with dlt and joined for analysts.

The way of the data: `source` (the API as data) reads answers through `client` and `readahead`, `paging` makes pages of
them, `batches` and `values` typed rows, `warehouse` takes those, told in its own SQL by `dialect`, `ledger` enters the
sync, `marts` join the tables, and `published` is the copy that analysts read, `dictionary` the views that explain both.
`assets`, `profile`, `reference`, `checks`, `trust` and `automation` show all of it to Dagster. `schema` says what each
table is.
"""

from analytics_assets import environment

environment.load()  # here, so that no way of starting is without it: both dlt and Dagster read it when imported
