"""From the API to typed Arrow batches: what is asked for, how, and what the answers mean.

`api` says what the API is, in dlt's words. `reader` reads the resources of one run, `reading` the pages of one of them;
`client` sends a request and tries it again as `faults` says, within `budget` and with the token from `access`. `pages`
keeps on disk what came, until `batches` makes columns of it, with `structs` or `values`, and `source` hands them to
dlt. `answer` knows JSON, `threads` runs what blocks. Nothing here knows Dagster or the warehouse.
"""
