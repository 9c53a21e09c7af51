"""From an answer to the rows of a page, and on to the next page: the guard over what the API says.

Where the rows of an answer stand is told to it; what they mean it does not know.
"""

from collections.abc import Sequence
from typing import Any

import requests
from dlt.common.utils import str2bool
from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

from analytics_assets.client import shown


class UnexpectedResponse(Exception):
    """The API answered something that is not a page of rows; the message holds none of the answer's values."""


def rows_at(path: Sequence[str], response: requests.Response) -> list[dict[str, Any]]:
    """The list of objects at `path` of the answer, or `UnexpectedResponse`, which names the URL and the status."""
    value = response.json()
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    where = f"HTTP {response.status_code} from {shown(response.url)}"
    raise UnexpectedResponse(f"{where}: there is no list of objects at {'.'.join(path)!r} of the answer")


class PageNumbers(PageNumberPaginator):
    """Pages from 1 until `has_more` says no; where it is missing, until an empty page, which always ends the reading.

    Guards every answer: raises `UnexpectedResponse` where rows are not at `path`, where `has_more` cannot be
    understood, and where a page repeats the one before it.
    """

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(base_page=1, page_param="page", total_path=None)
        self._path = path
        self._previous: list[Any] = []

    @property
    def page(self) -> int:
        """The number of the page that was read last."""
        return self.current_value - 1

    def init_request(self, request: requests.Request) -> None:
        self._previous = []
        super().init_request(request)

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        rows = rows_at(self._path, response)
        where = shown(response.url)
        ids = [row.get("id", row) for row in rows]
        if rows and ids == self._previous:
            raise UnexpectedResponse(f"{where} repeats the page before it: the server seems to ignore 'page'")
        self._previous = ids
        more = response.json().get("has_more")
        super().update_state(response, rows)
        if more is not None:
            try:
                self._has_next_page = self._has_next_page and str2bool(str(more))
            except ValueError:
                raise UnexpectedResponse(f"{where}: 'has_more' is neither true nor false") from None
