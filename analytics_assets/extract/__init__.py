"""From the API to typed Arrow batches.

`api` describes the API in dlt's terms. `reader` reads the resources of one run, `reading` the pages of one resource;
`client` sends requests and retries them as `faults` says, within `budget` and with the token from `access`. `pages`
keeps pages on disk until `batches` types them, with `structs` or `values`, and `source` hands them to dlt. `answer`
parses JSON, `threads` runs blocking calls. Nothing here knows Dagster or the warehouse.
"""
