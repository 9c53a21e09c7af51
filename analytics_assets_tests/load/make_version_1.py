"""Makes the warehouses of version 1 that `test_upgrade` upgrades, by the code of that version.

`git worktree add /tmp/old d8d479f`, then `PYTHONPATH=/tmp/old python analytics_assets_tests/load/make_version_1.py`
writes version_1.duckdb.xz and version_1.sql (by pg_dump) to the current folder: three syncs of each resource, those of
trainings by window after the first, and what a user has added: views, a table, and on Postgres a grant.
"""

import lzma
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
USERS: Rows = [{"id": key, "email": f"{key}@example.org", "segments": ["a"]} for key in range(1, 7)]
REGISTRATIONS: Rows = [
    {"id": key, "score": key * 10, "is_completed": key > 2, "user": {"id": key}, "content": {"id": 1}}
    for key in range(1, 5)
]
PATHS_USERS: Rows = [{"id": 1, "user_id": 1, "path_id": 7, "progress_percentage": 50}]
TRAININGS: Rows = [{"id": 1, "name": "old", "created_at": 1_600_000_000}]
UNREADABLE = {"created_at": "?"}
OF_USERS = """
CREATE VIEW analytics.seen AS SELECT id, _last_seen_at FROM analytics.users;
COMMENT ON VIEW analytics.seen IS 'When a learner''s row was seen.';
CREATE VIEW analytics.everything AS SELECT * FROM analytics.users;
CREATE VIEW analytics.seen_days AS SELECT id, CAST(_last_seen_at AS DATE) AS day FROM analytics.seen;
CREATE VIEW analytics.seen_both AS SELECT r.id, u._last_seen_at AS learner_seen, r._last_seen_at
    FROM analytics.registrations AS r JOIN analytics.users AS u ON u.id = r.user_id;
CREATE TABLE analytics.visits AS SELECT 1 AS id, 2 AS _last_seen_at;
CREATE VIEW analytics.visits_seen AS SELECT _last_seen_at FROM analytics.visits;
"""


def without(rows: Rows, *ids: int) -> Rows:
    return [row for row in rows if row["id"] not in ids]


def three_syncs(rows: dict[str, Rows], sync: Callable[[], None]) -> None:
    """User 2 is deleted, user 3 changes and cannot be read, user 4 is missed once; trainings are read by window."""
    rows |= {"users": USERS, "registrations": REGISTRATIONS, "paths_users": PATHS_USERS, "trainings": TRAININGS}
    sync()
    rows["users"] = [*without(USERS, 2, 3), USERS[2] | UNREADABLE]
    rows["trainings"] = [*TRAININGS, {"id": 2, "name": "new", "created_at": int(time.time())}]
    sync()
    rows["users"] = [*without(USERS, 2, 3, 4), USERS[2] | UNREADABLE]
    sync()


def make(kind: str, credentials: str) -> None:
    import dagster as dg

    from analytics_assets_tests.conftest import materializing_in
    from analytics_assets_tests.contract_api import TOKEN, serving

    with serving() as api, dg.DagsterInstance.ephemeral() as instance:
        os.environ |= {
            "DESTINATION__WAREHOUSE__DESTINATION_TYPE": kind,
            "DESTINATION__WAREHOUSE__CREDENTIALS": credentials,
            "API_BASE_URL": api.url,
            "API_KEY": TOKEN,
            "API_RESOURCE_PATH": "/v1/{resource}",
            "API_WINDOW_TRAININGS": "/v1/trainings?start={start}&end={end}",
        }

        def sync() -> None:
            assert materializing_in(instance)().success

        three_syncs(api.rows, sync)


def main() -> None:
    import duckdb

    from analytics_assets_tests import postgres

    with tempfile.TemporaryDirectory() as folder, postgres.serving() as server:
        os.environ |= {"DAGSTER_HOME": folder, "DLT_DATA_DIR": f"{folder}/dlt"}
        file = Path(folder, "warehouse.duckdb")
        make("duckdb", str(file))
        with duckdb.connect(str(file)) as database:
            database.execute(OF_USERS)
        Path("version_1.duckdb.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
        url = server.url(server.new_database())
        make("postgres", url)
        with closing(server.connect(url.rpartition("/")[2])) as connection, connection.cursor() as cursor:
            cursor.execute(OF_USERS)
            cursor.execute("GRANT USAGE ON SCHEMA analytics TO reader")
            cursor.execute("GRANT SELECT ON analytics.users, analytics.syncs, analytics.seen TO reader")
        command = ["pg_dump", "--inserts", "--no-owner", "--no-comments", url]
        dump = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = (line for line in dump.stdout.splitlines() if line and not re.match(r"--|\\", line))
        Path("version_1.sql").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
