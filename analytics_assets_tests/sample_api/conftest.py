"""What the tests of the sample API share: one server that runs, and how a client asks it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from analytics_assets.sample_api.academy import SIZES, Academy
from analytics_assets.sample_api.process import running

NOW = datetime(2024, 6, 1, tzinfo=UTC)
TOKEN = {"Authorization": "Bearer sample-token"}
ACADEMY = Academy(seed=7, now=NOW)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running("--seed", "7", "--now", NOW.isoformat()) as url:
        yield url


@pytest.fixture
def api(server: str) -> Iterator[str]:
    """The one server, put right again after the test."""
    yield server
    post(server, "faults", dict.fromkeys(SIZES))


def get(url: str, resource: str, page: int = 1, per_page: int = 100) -> requests.Response:
    where = f"{url}/v1/{resource}"
    return requests.get(where, params={"page": page, "per_page": per_page}, headers=TOKEN, timeout=10)


def post(url: str, what: str, document: Any) -> requests.Response:
    return requests.post(f"{url}/{what}", json=document, timeout=10)


def read(url: str, resource: str, per_page: int = 100) -> list[dict[str, Any]]:
    """All rows of a resource, page by page, as the contract says."""
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        document = get(url, resource, page, per_page).json()
        found += document["data"][resource]
        if not document["has_more"]:
            return found
        page += 1


def instant(value: str | float) -> datetime:
    """A time of the API as the moment it means."""
    if not isinstance(value, str):
        return datetime.fromtimestamp(value / 1000, UTC)
    return datetime.fromisoformat(value.replace(" UTC", "+00:00"))


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A Python command that serves on a free port, and tells its address on standard output."""
    whole = [sys.executable, *command, "--port", "0", "--exit-with-parent"]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()
