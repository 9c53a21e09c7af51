"""Six resources of a learning platform's REST API as Dagster assets, loaded with dlt and joined for analysts.

The folders are in the order in which data goes through them: `tables` says what each table is; `extract` reads the API
and makes typed rows of its answers; `load` puts them into the warehouse; `marts` joins them, one SQL file per mart;
`defs` shows all of it to Dagster. `sample_api` stands in for the API.
"""

import sys

from analytics_assets import settings

# Here, so that no way of starting is without it: dlt and Dagster read the environment when they are imported. The
# sample API needs neither, and starts in half the time without.
if "analytics_assets.sample_api" not in sys.orig_argv:
    settings.load()
