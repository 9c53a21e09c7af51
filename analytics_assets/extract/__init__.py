"""From the API to typed Arrow batches.

`api` describes the API in dlt's terms. `reader` reads the resources of one run, `reading` the pages of one resource;
`client` sends requests over `network`, with the token from `access` and within `budget` (in a file, or in
`budget_database`), retries them as `faults` says, and reads the `body`. `pages` keeps pages on disk until `batches`
types them, with `structs` or `values`, and `source` hands them to dlt. `answer` parses JSON, `threads` runs blocking
calls. Nothing here knows Dagster or the warehouse.
"""
