"""An hour of an API's life in a few minutes, read by everything that runs by itself: at the end all tables agree."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Query
from analytics_assets_tests.contract_api import ContractApi, body, cut_short, reset, status
from analytics_assets_tests.defs.browsing import free_port, wait_for

pytestmark = pytest.mark.long

LIFE_SECONDS = 200
FAULTS = [status(503), status(429, {"Retry-After": "0"}), cut_short, reset, body(b"<html>"), body(b'{"data": {}}')]


class Life:
    """Rows that come, change and go; one call in twenty is answered by a fault."""

    def __init__(self, api: ContractApi, seed: int) -> None:
        self.random = random.Random(seed)
        self.api = api
        self.ever: dict[str, set[str]] = {name: set() for name in RESOURCES}
        self.births = 0
        for name in RESOURCES:
            self.grow(name, 300)
        api.page = self.page

    def page(self, resource: str, page: int, size: int) -> Any:
        if self.random.random() < 0.05:
            self.api.answers[resource].append(self.random.choice(FAULTS))
        return self.api.contract_page(resource, page, size)

    def grow(self, resource: str, count: int) -> None:
        for _ in range(count):
            self.births += 1
            key = self.births if self.random.random() < 0.5 else str(self.births)
            row = {"id": key, "name": "new", "score": 0, "user": {"id": self.one_of("users")}}
            self.api.rows[resource].append({**row, "content": {"content": {"id": self.one_of("trainings")}}})
            self.ever[resource].add(str(key))

    def one_of(self, resource: str) -> Any:
        rows = self.api.rows[resource]
        return self.random.choice(rows)["id"] if rows else None

    def second(self) -> None:
        """What happens in about 20 seconds of a real academy."""
        for resource, rows in self.api.rows.items():
            if self.random.random() < 0.3:
                self.grow(resource, self.random.randrange(20))
            for row in self.random.sample(rows, 5):
                row["name"], row["score"] = f"changed {self.random.random()}", self.random.random()
            if self.random.random() < 0.1:
                del rows[self.random.randrange(len(rows))]


@contextmanager
def daemon(folder: Path) -> Any:
    """`make ui`, with everything switched on."""
    command = [sys.executable, "-m", "analytics_assets", "ui", "--port", str(free_port())]
    with (folder / "ui.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
        assert process.poll() is None, (folder / "ui.log").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@pytest.mark.usefixtures("dagster_home")
def test_an_hour_of_life_ends_in_equal_tables(
    api: ContractApi, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growth, updates, deletions and faults under running sensors: the tables, the join and the copy are exact."""
    for name, value in {
        "AUTOMATION": "running",
        "NEW_ROWS_SECONDS": "10",
        "NIGHTLY_CRON": "* * * * *",
        "RUNTIME__REQUEST_BACKOFF_FACTOR": "0.01",
    }.items():
        monkeypatch.setenv(name, value)
    life = Life(api, seed=time.time_ns() % 10**6)
    copy = tmp_path / "published.duckdb"

    def published(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(copy), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def synced_since(moment: datetime) -> Callable[[], bool]:
        since = f"SELECT resource FROM analytics.syncs WHERE started_at > TIMESTAMPTZ '{moment}' GROUP BY 1"
        return lambda: copy.exists() and len(published(f"{since} HAVING count(*) >= 3")) == len(RESOURCES)

    with daemon(tmp_path):
        end = time.monotonic() + LIFE_SECONDS
        while time.monotonic() < end:
            life.second()
            time.sleep(1)
            if copy.exists():
                assert published("SELECT count(*) > 0 FROM analytics.users") == [(True,)]
        wait_for(synced_since(datetime.now(UTC)), "three syncs after the end", seconds=420)

    for name, rows in api.rows.items():
        alive = {str(row["id"]) for row in rows}
        # What came and went between two syncs has never been seen, and nobody can know of it.
        seen: dict[str, bool] = dict(query(f"SELECT id, _deleted_at IS NULL FROM {name}"))
        assert {key for key, lives in seen.items() if lives} == alive
        assert seen.keys() <= life.ever[name]
        assert query(f"SELECT count(*) - max(number) FROM syncs WHERE resource = '{name}'") == [(0,)]
        if past := HISTORIES.get(name):
            states = query(f"SELECT id FROM {past.name} WHERE to_sync IS NULL")
            assert sorted(key for (key,) in states) == sorted(alive)
            tracked = ", ".join(column.name for column in past.columns if column.name in RESOURCES[name].fields)
            live = f"SELECT {tracked} FROM {name} WHERE _deleted_at IS NULL"
            assert query(f"({live}) EXCEPT (SELECT {tracked} FROM {past.name} WHERE to_sync IS NULL)") == []
        assert dict(published(f"SELECT id, _deleted_at IS NULL FROM analytics.{name}")) == seen
    for name in ("trainings", "certifications"):
        names = {str(row["id"]): row["name"] for row in api.rows[name]}
        assert dict(query(f"SELECT id, name FROM {name} WHERE _deleted_at IS NULL")) == names
    known = {name: {key for (key,) in query(f"SELECT id FROM {name}")} for name in ("users", "trainings")}
    expected = {
        (
            str(row["id"]),
            str(user := row["user"]["id"]),
            str(training := row["content"]["content"]["id"]),
            float(row["score"]),
            str(user) in known["users"],
            str(training) in known["trainings"],
        )
        for row in api.rows["registrations"]
    }
    joined = "SELECT registration_id, user_id, training_id, score, has_user, has_training FROM {}registrations_enriched"
    assert set(query(joined.format(""))) == expected
    assert set(published(joined.format("analytics."))) == expected
