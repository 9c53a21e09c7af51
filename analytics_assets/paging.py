"""From answers to the rows of pages, in order: the guard over what the API says, and the paginator that counts pages.

Where the rows of an answer stand is told to it; what they mean it does not know.
"""

from collections.abc import Sequence
from operator import eq
from typing import Any, NamedTuple

import requests
from dlt.common.utils import str2bool
from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

from analytics_assets.token import shown

Row = dict[str, Any]


class UnexpectedResponse(Exception):
    """The API answered something that is not a page of rows; the message holds none of the answer's values."""


class Page(NamedTuple):
    """The rows of one page, and whether there may be another."""

    rows: list[Row]
    has_more: bool


def rows_at(path: Sequence[str], response: requests.Response) -> list[Row]:
    """The list of objects at `path` of the answer, or `UnexpectedResponse`, which names the URL and the status."""
    value = response.json()
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, list) and (not value or any(isinstance(row, dict) for row in value)):
        return value  # what is no object among objects is set aside like any row that cannot be read
    where = f"HTTP {response.status_code} from {shown(response.url)}"
    what = f"there is no list of objects at {'.'.join(path)!r} of the answer"
    raise UnexpectedResponse(f"{where}: {what}; check API_BASE_URL and API_RESOURCE_PATH, or ask what has changed")


class Guard:
    """Reads the answers of one resource, given in the order of its pages.

    `has_more` decides whether there is another page; where it is missing, every page but an empty one has another, and
    an empty page is the last in any case. Raises `UnexpectedResponse` where the rows are not at `path`, where
    `has_more` cannot be understood, and where a page repeats the one before it.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self._path = path
        self._previous: list[Row] = []

    def __call__(self, response: requests.Response) -> Page:
        rows, previous = rows_at(self._path, response), self._previous
        if rows and len(rows) == len(previous) and all(map(eq, map(_id, rows), map(_id, previous))):
            problem = "repeats the page before it: the server seems to ignore 'page'"
            raise UnexpectedResponse(f"{shown(response.url)} {problem}")
        self._previous = rows
        more = response.json().get("has_more")
        try:
            return Page(rows, bool(rows) and (more is None or str2bool(str(more))))
        except ValueError:
            raise UnexpectedResponse(f"{shown(response.url)}: 'has_more' is neither true nor false") from None

    def ids(self, response: requests.Response) -> list[Any]:
        """What tells the rows of the answer apart."""
        return list(map(_id, rows_at(self._path, response)))


def _id(row: Any) -> Any:
    return row["id"] if isinstance(row, dict) and row.get("id") is not None else row


class PageNumbers(PageNumberPaginator):
    """Counts pages from 1 through the answers of `readahead.ReadAhead`, each of which carries one page or several."""

    def __init__(self) -> None:
        super().__init__(base_page=1, page_param="page", total_path=None)
        self.pages: list[int] = []

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the page number of each row, and go on behind the last page of the answer."""
        sizes = response.json()["sizes"]
        self.pages = [self.current_value + offset for offset, size in enumerate(sizes) for _ in range(size)]
        self.current_value += len(sizes)
        self._has_next_page = response.json()["has_more"]
