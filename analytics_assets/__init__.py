"""Six resources of a learning platform's REST API as Dagster assets, loaded with dlt and joined for analysts.

The folders in the order in which data goes through them: `tables` declares each table; `extract` reads the API and
types its rows; `load` writes them to the warehouse; `marts` joins them, one SQL file per mart; `defs` defines all of it
for Dagster. `sample_api` is a stand-in for the API.
"""

import sys

from analytics_assets import settings

# Here, to precede every import of dlt and Dagster, which read the environment. The sample API needs neither, and starts
# in half the time without it.
if "analytics_assets.sample_api" not in sys.orig_argv:
    settings.load()
