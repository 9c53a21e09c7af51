"""A Singer tap, made with Meltano's SDK, piped into target-duckdb, as the two are used: a process each.

The clock has their start in it. The tap brings ids and times to one format each. Without a time in a table, the target
would take its first row for a header.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from singer_sdk import RESTStream, Stream, Tap
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.pagination import PageNumberPaginator

from benchmarks.contestants.clock import task, timed
from benchmarks.contestants.json_schema import FIELDS, TEXT, TIMES


class Pages(PageNumberPaginator):
    def has_more(self, response: requests.Response) -> bool:
        return bool(response.json()["has_more"])


def instant(value: Any) -> str:
    """Epoch milliseconds, `... UTC` or ISO 8601 as the last of these."""
    if isinstance(value, str):
        return value.replace(" UTC", "+00:00")
    return datetime.fromtimestamp(float(value) / 1000, UTC).isoformat()


class Resource(RESTStream[int]):
    """One of the six."""

    primary_keys = ("id",)

    def __init__(self, tap: Tap, name: str) -> None:
        self._times = TIMES[name]
        times = dict.fromkeys(self._times, TEXT | {"format": "date-time"})
        super().__init__(tap, name, {"type": "object", "properties": FIELDS[name] | times}, f"/v1/{name}")
        self._texts = [field for field, kind in FIELDS[name].items() if kind is TEXT]

    @property
    def url_base(self) -> str:
        return str(self.config["url"])

    @property
    def authenticator(self) -> BearerTokenAuthenticator:
        return BearerTokenAuthenticator(token=self.config["token"])

    @property
    def records_jsonpath(self) -> str:
        return f"$.data.{self.name}[*]"

    def get_new_paginator(self) -> Pages:
        return Pages(1)

    def get_url_params(self, _: Any, next_page_token: int | None) -> dict[str, Any]:
        return {"per_page": 100, "page": next_page_token}

    def post_process(self, row: dict[str, Any], context: Mapping[str, Any] | None = None) -> dict[str, Any]:
        for name in self._texts:
            if row.get(name) is not None:
                row[name] = instant(row[name]) if name in self._times else str(row[name])
        return row


class AcademyTap(Tap):
    """All six."""

    name = "tap-academy"

    def discover_streams(self) -> list[Stream]:
        return [Resource(self, name) for name in FIELDS]


def main() -> None:
    todo = task()
    tap, target = todo.file.with_name("tap.json"), todo.file.with_name("target.json")
    tap.write_text(json.dumps({"url": todo.url, "token": todo.token}))
    target.write_text(json.dumps({"path": str(todo.file), "default_target_schema": "analytics"}))
    loader = str(Path(sys.executable).with_name("target-duckdb"))
    with timed(), subprocess.Popen([sys.executable, __file__, "--config", str(tap)], stdout=subprocess.PIPE) as reader:
        subprocess.run([loader, "--config", str(target)], stdin=reader.stdout, stdout=subprocess.DEVNULL, check=True)
    if reader.returncode:
        sys.exit("the tap failed")


if __name__ == "__main__":
    AcademyTap.cli() if "--config" in sys.argv else main()
