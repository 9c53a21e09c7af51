"""dlt's sources of the six resources, which yield the batches of a reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import dlt
import requests
from dlt.extract import DltSource
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import EndpointResource

from analytics_assets.extract.api import api
from analytics_assets.settings import Settings
from analytics_assets.tables.schema import Table, dlt_columns
from analytics_assets.tables.sync import Rows


class Batches(requests.Session):
    """Answers dlt's requests for pages of one resource with batches of `rows`, in the shape of the API's answers."""

    rows: Rows

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        batch, has_more = self.rows.batch()
        rows = [] if batch is None else [batch]
        response = requests.Response()
        response.status_code, response.url = 200, str(request.url)
        setattr(response, "json", lambda **_: {"data": {self.rows.table.name: rows}, "has_more": has_more})  # noqa: B010
        return response

    def __deepcopy__(self, _: Any) -> "Batches":
        return self  # dlt copies its configuration


class Source:
    """dlt's source of one resource; built once, since building takes longer than loading a page of rows."""

    def __init__(self, table: Table, settings: Settings) -> None:
        self._session = Batches()
        config = api(settings, self._session)
        resources = cast(list[EndpointResource], config["resources"])
        config["resources"] = [each for each in resources if each["name"] == table.name]
        self.dlt = rest_api_source(config, name=table.name)
        self.dlt.resources[table.name].apply_hints(columns=dlt_columns(table)).add_step(_loadable)

    @contextmanager
    def of(self, rows: Rows) -> Iterator[DltSource]:
        """The source, which yields the batches of `rows` inside the context; one reading at a time."""
        self._session.rows = rows
        try:
            yield self.dlt
        finally:
            del self._session.rows


def _loadable(batches: list[Any], _: Any = None) -> Any:
    """The batch; without rows in another file format, since dlt cannot load an empty Parquet file into Postgres."""
    if not batches or batches[0].num_rows:
        return batches
    # The hint applies to the table, of which this is the only batch.
    return dlt.mark.with_hints(batches[0], dlt.mark.make_hints(file_format="preferred"))
