"""A warehouse of version 1, made by that version (see `make_version_1`), under the present code."""

import lzma
import os
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg2
import pytest

from analytics_assets_tests import postgres
from analytics_assets_tests.conftest import Materialize, Query
from analytics_assets_tests.contents import succeeded
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.load.make_version_1 import PATHS_USERS, REGISTRATIONS, TRAININGS, USERS, without
from analytics_assets_tests.load.test_states import killed_at

HERE = Path(__file__).parent
RESOURCES = ("users", "registrations", "paths_users", "trainings")
OF_USERS = ("seen", "everything", "seen_days", "seen_both", "visits_seen")
DELETED = "SELECT id FROM users WHERE _deleted_at IS NOT NULL ORDER BY id"


@pytest.fixture
def version_1(each_warehouse: str, warehouse_file: Path, api: ContractApi) -> ContractApi:
    """The warehouse after three syncs of version 1, and an API with the rows of then, all readable."""
    if each_warehouse == "duckdb":
        warehouse_file.write_bytes(lzma.decompress((HERE / "version_1.duckdb.xz").read_bytes()))
    else:
        execute((HERE / "version_1.sql").read_text())
    api.rows |= {
        "users": without(USERS, 2, 4),
        "registrations": REGISTRATIONS,
        "paths_users": PATHS_USERS,
        "trainings": [*TRAININGS, {"id": 2, "name": "new", "created_at": 1_600_000_000}],
    }
    return api


def execute(statements: str) -> None:
    """Execute them as a user would, without this project."""
    url = os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"]
    if os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] == "duckdb":
        with duckdb.connect(url) as database:
            database.execute(statements)
        return
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statements)
        connection.commit()


def assert_upgraded(query: Query, kind: str) -> None:
    """Every row is there, every sync has its number, the views return what they did, and the history has begun."""
    assert query("SELECT id FROM users ORDER BY id") == [(str(key),) for key in range(1, 7)]
    assert query(DELETED) == [("2",)]
    assert query("SELECT count(*) FROM registrations WHERE _hash IS NOT NULL AND _changed_in = 4") == [(4,)]
    for name in RESOURCES:
        assert query(f"SELECT number FROM syncs WHERE resource = '{name}' ORDER BY started_at") == [
            *((1,), (2,), (3,), (4,))
        ]
    windows = query("SELECT number, window_start IS NULL FROM syncs WHERE resource = 'trainings' ORDER BY number")
    assert windows == [(1, True), (2, False), (3, False), (4, True)]
    assert query("SELECT id, from_sync, to_sync FROM user_history ORDER BY id") == [
        (key, 4, None) for key in ("1", "3", "4", "5", "6")
    ]
    assert query("SELECT count(*) FROM registration_history") == [(4,)]
    assert query("SELECT count(*) FROM enrolment_history") == [(1,)]
    assert query("SELECT count(_last_seen_at) FROM seen") == [(6,)]
    assert query("SELECT count(day) FROM seen_days") == [(6,)]
    assert query("SELECT count(learner_seen), count(_last_seen_at) FROM seen_both") == [(4, 4)]
    assert query("SELECT _last_seen_at FROM visits_seen") == [(2,)]
    if kind == "duckdb":
        assert query("SELECT comment FROM duckdb_views() WHERE view_name = 'seen'") == [
            ("When a learner's row was seen.",)
        ]
    assert query("SELECT count(*) FROM everything") == [(6,)]
    if kind == "postgres":
        assert as_reader("SELECT count(*) FROM users") == as_reader("SELECT count(*) FROM seen") == [(6,)]
        assert as_reader("SELECT max(number) FROM syncs") == [(4,)]


def as_reader(query: str) -> object:
    url = os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"]
    return postgres.ask(url.replace(postgres.LOADER, postgres.READER, 1), query)


def test_a_warehouse_of_version_1_is_upgraded_by_the_next_sync(
    version_1: ContractApi, materialize: Materialize, query: Query, each_warehouse: str
) -> None:
    """It keeps rows, syncs, views and grants; the sync after it writes no row, and deletions are found as ever."""
    succeeded(materialize())
    assert_upgraded(query, each_warehouse)
    assert query("SELECT id FROM rejected_rows") == []
    assert query("SELECT id, missing_since FROM missing_ids WHERE resource = 'users'") == [("4", 4)]

    succeeded(materialize())
    for name in RESOURCES:
        written = query(f"SELECT id FROM {name} WHERE _changed_in = 5")
        assert written == ([("4",)] if name == "users" else []), "one has been missed again, and is deleted"
    version_1.rows["users"] = without(USERS, 4, 5)
    for deleted in ([("4",)], [("4",), ("5",)]):
        succeeded(materialize("users"))
        assert query(DELETED) == deleted
    assert query("SELECT id, from_sync, to_sync FROM user_history WHERE id IN ('2', '4', '5') ORDER BY id") == [
        ("2", 6, None),
        ("4", 4, 5),
        ("5", 4, 7),
    ]


def test_an_interrupted_upgrade_goes_on(
    version_1: ContractApi, materialize: Materialize, query: Query, each_warehouse: str
) -> None:
    """Killed in its transaction, before views are mended, and before the load, it ends as if it had not been."""
    killed_at("sql", "DROP TABLE IF EXISTS")
    if each_warehouse == "duckdb":  # on Postgres, views follow the column by themselves
        killed_at("call", "analytics_assets.load.upgrade:mend_views")
    killed_at("call", "dlt:Pipeline.load")
    succeeded(materialize())
    assert_upgraded(query, each_warehouse)


def test_views_that_cannot_be_mended_do_not_stop_the_upgrade(
    version_1: ContractApi, materialize: Materialize, query: Query, each_warehouse: str
) -> None:
    """A view that cannot be read, and one of a resource that is not synced yet; reference and copy need no sync."""
    if each_warehouse == "duckdb":
        execute("CREATE TABLE analytics.gone AS SELECT 1 AS _last_seen_at")
        execute("CREATE VIEW analytics.lost AS SELECT _last_seen_at FROM analytics.gone; DROP TABLE analytics.gone")
        succeeded(materialize("published_database"))
    succeeded(materialize("sync_log", "data_dictionary"))
    succeeded(materialize("users"))
    assert query("SELECT count(_last_seen_at) FROM seen") == [(6,)]
    succeeded(materialize("registrations"))
    assert query("SELECT count(learner_seen), count(_last_seen_at) FROM seen_both") == [(4, 4)]
