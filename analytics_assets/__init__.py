"""Six resources of a learning platform's REST API as Dagster assets, loaded with dlt and joined for analysts.

The folders in the order in which data goes through them: `tables` declares each table; `extract` reads the API and
types its rows; `load` writes them to the warehouse; `marts` joins them, one SQL file per mart; `defs` defines all of it
for Dagster. `sample_api` is a stand-in for the API.
"""

from analytics_assets import settings

settings.load()  # here, so that no way of starting is without it: dlt and Dagster read the environment when imported
