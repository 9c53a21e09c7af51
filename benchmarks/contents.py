"""What a database holds, and what the API gives: rows and a checksum of the ids, by resource, as a line of JSON.

`python -m benchmarks.contents` with the API's URL and token, or with a DuckDB file. A process of its own, since what
it takes of memory must not be counted as a contestant's.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial

import duckdb
import requests

from benchmarks.contestants.json_schema import FIELDS


def given(url: str, token: str, resource: str) -> Iterator[str]:
    """The ids that the API gives, read one page after the other."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        has_more, page = True, 0
        while has_more:
            page += 1
            answer = session.get(f"{url}/v1/{resource}?per_page=100&page={page}").json()
            has_more = answer["has_more"]
            yield from (str(row["id"]) for row in answer["data"][resource])


def held(file: str, resource: str) -> Iterator[str]:
    """The ids that a DuckDB file has in the schema `analytics`."""
    with duckdb.connect(file, read_only=True) as database:
        rows = database.execute(f"SELECT CAST(id AS VARCHAR) FROM analytics.{resource}").fetchall()
        return (key for (key,) in rows)


def summary(ids: Iterable[str]) -> tuple[int, str]:
    """How many, and what their sorted list hashes to."""
    listed = sorted(ids)
    return len(listed), hashlib.md5(" ".join(listed).encode()).hexdigest()


if __name__ == "__main__":
    look = partial(given, *sys.argv[1:]) if len(sys.argv) == 3 else partial(held, sys.argv[1])
    print(json.dumps({resource: summary(look(resource)) for resource in FIELDS}))
