"""The history of rows: what it says of every past day, and what a sync writes at all."""

import random
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contents import succeeded
from analytics_assets_tests.contract_api import ContractApi, status

pytestmark = pytest.mark.usefixtures("each_warehouse")

DAYS, FIRST_ROWS = 30, 50
OF_STATE = ("valid_from", "valid_to", "from_sync", "to_sync")
TRACKED = {name: [c.name for c in history.columns if c.name not in OF_STATE] for name, history in HISTORIES.items()}
UNREADABLE = {"users": "created_at", "registrations": "created_at", "paths_users": "completed_at"}
Row = dict[str, Any]
Random = random.Random


def tracked_fields(name: str, chance: Random) -> Row:
    """Values of tracked columns, with nulls, and with values that are easily taken for each other."""
    if name == "users":
        return {"segments": chance.choice([None, [], ["a"], ["a", "b"], ["b", "a"]])}
    if name == "paths_users":
        progress, completed = chance.choice([None, 0, 50, 100]), chance.choice([None, 1_700_000_000_000])
        return {"progress_percentage": progress, "completed_at": completed, "path_id": chance.randrange(3)}
    return {
        "score": chance.choice([None, 0, 0.5, 70]),
        "is_completed": chance.choice([None, True, False]),
        "pass_status": chance.choice([None, "", "passed"]),
        "due_at": chance.choice([None, "2024-05-01T00:00:00Z", "2024-05-01T00:00:00.000001Z"]),
        "user": {"id": chance.randrange(3)},
    }


def untracked_fields(name: str, chance: Random) -> Row:
    field = {"users": "display_name", "registrations": "note", "paths_users": "path_name"}[name]
    return {field: chance.choice([None, "", "one", "two", "three"])}


class Life:
    """The rows of an API that change from day to day, at random."""

    def __init__(self, api: ContractApi, seed: int) -> None:
        self.api, self.chance, self.ids = api, Random(seed), iter(range(10_000))
        self.rows: dict[str, dict[int, Row]] = {name: {} for name in HISTORIES}
        self.deleted: dict[str, dict[int, Row]] = {name: {} for name in HISTORIES}
        self.unreadable: dict[str, dict[int, int]] = {name: {} for name in HISTORIES}  # days to go, by id
        for name in HISTORIES:
            self.add(name, FIRST_ROWS)
        self.show()

    def add(self, name: str, count: int) -> None:
        for key in (next(self.ids) for _ in range(count)):
            fields = tracked_fields(name, self.chance) | untracked_fields(name, self.chance)
            self.rows[name][key] = {"id": key, **fields}

    def some(self, ids: Any, most: int) -> list[int]:
        ids = sorted(ids)
        return self.chance.sample(ids, min(len(ids), self.chance.randint(0, most)))

    def change(self) -> None:
        for name, rows in self.rows.items():
            self.add(name, self.chance.randint(0, 3))
            for key in self.some(rows, 5):
                rows[key] = rows[key] | tracked_fields(name, self.chance)
            for key in self.some(rows, 5):
                rows[key] = rows[key] | untracked_fields(name, self.chance)
            for key in self.some(self.deleted[name], 2):
                rows[key] = self.deleted[name].pop(key) | self.chance.choice([{}, tracked_fields(name, self.chance)])
            for key in self.some(rows, 2):
                self.deleted[name][key] = rows.pop(key)
            left = {key: days - 1 for key, days in self.unreadable[name].items() if days > 1}
            self.unreadable[name] = left | {key: self.chance.randint(1, 4) for key in self.some(rows, 2)}
        self.show(missing=2)

    def show(self, missing: int = 0) -> None:
        """Serve the rows, in another order and but for some that are missing for a day."""
        for name, rows in self.rows.items():
            hidden = self.some(rows, missing)
            shown = [rows[key] | {UNREADABLE[name]: "?"} if key in self.unreadable[name] else rows[key] for key in rows]
            self.api.rows[name] = [row for row in shown if row["id"] not in hidden]
            self.chance.shuffle(self.api.rows[name])


def current(query: Query, name: str) -> set[tuple[Any, ...]]:
    """The rows of a resource that are not deleted, with what its history keeps of them."""
    return set(query(f"SELECT {', '.join(TRACKED[name])} FROM {name} WHERE _deleted_at IS NULL"))


def number(query: Query, name: str) -> int:
    return int(query(f"SELECT max(number) FROM syncs WHERE resource = '{name}'")[0][0])


def states(query: Query, name: str) -> list[tuple[Any, ...]]:
    """The states of a resource: times and numbers of their syncs, then the tracked columns, first the id."""
    columns = ", ".join((*OF_STATE, *TRACKED[name]))
    return query(f"SELECT {columns} FROM {HISTORIES[name].name} ORDER BY id, from_sync")


def as_of(found: list[tuple[Any, ...]], sync: int) -> list[tuple[Any, ...]]:
    """The rows that the states say there were after this sync."""
    return [row for _, _, begun, ended, *row in map(list, found) if begun <= sync and (ended is None or ended > sync)]  # type: ignore[misc]


def assert_consistent(found: list[tuple[Any, ...]]) -> None:
    """Per id at most one state is open, the last one; states follow each other in order, and each differs."""
    by_id: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for state in found:
        by_id[state[4]].append(state)
    for of_id in by_id.values():
        for (start, end, begun, ended, *_), is_last in zip(of_id, [False] * (len(of_id) - 1) + [True], strict=True):
            assert (end is None) == (ended is None)
            assert ended is not None or is_last, "only the last is open"
            assert ended is None or (begun < ended and start <= end)
        for (_, end, _, ended, *before), (start, _, begun, _, *after) in pairwise(of_id):
            assert ended <= begun, "they do not overlap"
            assert end <= start
            assert ended < begun or before != after, "without a deletion between them, they differ"


def killed_at(kind: str, *point: str) -> None:
    command = [sys.executable, "-m", "analytics_assets_tests.killed", kind, *point]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr


def test_every_past_day_can_be_rebuilt(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After thirty days of changes, failures and a kill, the states that were open after a sync are its table."""
    monkeypatch.setenv("API_PAGE_SIZE", "20")
    life = Life(api, seed=11)
    days: dict[str, dict[int, set[tuple[Any, ...]]]] = {name: {} for name in HISTORIES}
    for day in range(DAYS):
        if day and day % 6:  # on every sixth day nothing changes
            life.change()
        if day == 8:  # registrations are loaded and not entered, and their rows change again before the next try
            killed_at("sql", r"UPDATE \W?registration_history")
            life.change()
        if day == 21:
            api.answers["users"].append(status(404))
            assert not materialize(*HISTORIES).success
            life.change()
        synced = ("registrations", "users" if day % 2 else "paths_users")
        succeeded(materialize(*synced))
        for name in synced:
            days[name][number(query, name)] = current(query, name)
    for name, tables in days.items():
        assert len(tables) >= DAYS // 2
        found = states(query, name)
        assert_consistent(found)
        for sync, rows in tables.items():
            rebuilt = as_of(found, sync)
            assert len(rebuilt) == len(rows), (name, sync)
            assert {tuple(row) for row in rebuilt} == rows, (name, sync)
        [(deleted, rejected)] = query(f"SELECT sum(deleted), sum(rejected) FROM syncs WHERE resource = '{name}'")
        gaps = sum(a[4] == b[4] and a[3] < b[2] for a, b in pairwise(found))
        assert min(deleted, rejected, gaps) > 3, "the life of the rows was not that quiet"


def test_a_history_has_no_personal_data(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """But for ids, the columns of the history have nothing that identifies a learner."""
    materialize(*HISTORIES)
    for name, history in HISTORIES.items():
        personal = {column.name for column in RESOURCES[name].columns if column.personal}
        there = query(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{history.name}'")
        assert {column for (column,) in there} == {column.name for column in history.columns}
        assert not personal & {column for (column,) in there}


def test_what_a_killed_sync_has_loaded_is_in_the_history_after_the_next(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Killed between the load and the entry, with rows that the next sync finds unchanged, changed back, or gone."""
    api.rows["registrations"] = [{"id": key, "score": 1} for key in range(6)]
    succeeded(materialize("registrations"))
    before = current(query, "registrations")
    api.rows["registrations"] = [{"id": key, "score": 2} for key in (0, 1, 2)] + [{"id": 3, "score": 1}, {"id": 9}]
    killed_at("sql", r"UPDATE \W?registration_history")
    assert query("SELECT count(*) FROM registrations WHERE _changed_in = 2") == [(4,)]
    assert query("SELECT count(*) FROM registration_history") == [(6,)]
    api.rows["registrations"] = [{"id": 0, "score": 2}, {"id": 1, "score": 1}, {"id": 3, "score": 1}, {"id": 9}]
    for sync in (2, 3, 4):
        succeeded(materialize("registrations"))
        assert number(query, "registrations") == sync
        found = states(query, "registrations")
        assert_consistent(found)
        assert {tuple(row) for row in as_of(found, 1)} == before
        assert {tuple(row) for row in as_of(found, sync)} == current(query, "registrations")
    assert query("SELECT id FROM registrations WHERE _deleted_at IS NOT NULL ORDER BY id") == [("2",), ("4",), ("5",)]


@pytest.mark.parametrize("remove", ["DROP TABLE user_history", "DELETE FROM user_history"])
def test_a_history_that_is_gone_begins_again(
    api: ContractApi, materialize: Materialize, query: Query, remove: str
) -> None:
    """The next sync fills it with the present states, also of rows that it does not write."""
    api.rows["users"] = [{"id": key, "segments": ["a"]} for key in range(4)]
    succeeded(materialize("users"))
    api.rows["users"] = api.rows["users"][:3]
    for _ in range(2):
        succeeded(materialize("users"))
    with warehouse().connection() as client:
        client.execute_sql(remove)
    api.rows["users"][0]["segments"] = ["b"]
    succeeded(materialize("users"))
    assert query("SELECT id, segments, from_sync, to_sync FROM user_history ORDER BY id") == [
        ("0", '["b"]', 4, None),
        ("1", '["a"]', 4, None),
        ("2", '["a"]', 4, None),
    ]


def test_a_sync_writes_the_rows_that_differ_and_no_other(
    api: ContractApi, materialize: Materialize, query: Query, each_warehouse: str
) -> None:
    """None if nothing has changed, and of 300 the three that have; Postgres's own row versions say the same."""
    version = ", CAST(xmin AS TEXT), CAST(ctid AS TEXT)" if each_warehouse == "postgres" else ""

    def written() -> set[tuple[Any, ...]]:
        return set(query(f"SELECT id, _changed_in, _changed_at {version} FROM registrations"))

    api.rows["registrations"] = [{"id": key, "score": 1, "note": "a"} for key in range(300)]
    succeeded(materialize("registrations"))
    first = written()
    for _ in range(2):
        api.rows["registrations"].reverse()  # rows move between pages
        succeeded(materialize("registrations"))
        assert written() == first
    changes: dict[int, Row] = {7: {"score": None}, 150: {"note": "b"}, 299: {"pass_status": ""}}
    for row in api.rows["registrations"]:
        row.update(changes.get(row["id"], {}))
    succeeded(materialize("registrations"))
    assert {(key, in_sync) for key, in_sync, *_ in written() - first} == {(str(key), 4) for key in changes}
    assert len(written() & first) == 297
    assert query("SELECT number, added, changed FROM syncs ORDER BY number") == [
        *((1, 300, 0), (2, 0, 0), (3, 0, 0), (4, 0, 3))
    ]
    assert query("SELECT id FROM registration_history WHERE from_sync = 4 ORDER BY id") == [("299",), ("7",)]


def change_by_hand(*statements: str) -> None:
    with warehouse().connection() as client:
        for statement in statements:
            client.execute_sql(statement)


def scored(**scores: int) -> list[Row]:
    return [{"id": key, "score": score} for key, score in scores.items()]


def assert_matches(query: Query, sync: int) -> None:
    """The history of registrations is consistent, and what it says of this sync, the last one, is the table."""
    assert number(query, "registrations") == sync
    found = states(query, "registrations")
    assert_consistent(found)
    assert {tuple(row) for row in as_of(found, sync)} == current(query, "registrations")


def test_a_table_that_was_dropped_is_loaded_again(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """The states of rows that are gone with it end, and those that come again unchanged go on."""
    api.rows["registrations"] = scored(a=1, b=2, c=3)
    succeeded(materialize("registrations"))
    change_by_hand("DROP TABLE registrations")
    api.rows["registrations"] = scored(a=1, b=4)
    succeeded(materialize("registrations"))
    assert_matches(query, 2)
    assert query("SELECT id, score, from_sync, to_sync FROM registration_history ORDER BY id, from_sync") == [
        *(("a", 1, 1, None), ("b", 2, 1, 2), ("b", 4, 2, None), ("c", 3, 1, 2))
    ]


def test_a_row_that_was_removed_by_hand_and_comes_again_is_not_deleted(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Also if the sync before had missed it."""
    api.rows["users"] = [{"id": 1}, {"id": 2}]
    materialize("users")
    api.rows["users"] = [{"id": 1}]
    materialize("users")
    with warehouse().connection() as client:
        client.execute_sql("DELETE FROM users WHERE id = '2'")
    api.rows["users"] = [{"id": 1}, {"id": 2}]
    materialize("users")
    assert query("SELECT id FROM users WHERE _deleted_at IS NULL ORDER BY id") == [("1",), ("2",)]
    api.rows["users"] = [{"id": 1}]
    for deleted in (0, 1):
        materialize("users")
        assert query("SELECT count(*) FROM users WHERE _deleted_at IS NOT NULL") == [(deleted,)]


def test_numbers_go_on_after_syncs_has_been_emptied(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """No state ends before it began, and a sync that was killed before its entry counts as one of them."""
    for score in (1, 2, 3):
        api.rows["registrations"] = scored(a=score, b=0)
        succeeded(materialize("registrations"))
    change_by_hand("DELETE FROM syncs WHERE true")
    for score in (4, 5):
        api.rows["registrations"] = scored(a=score, b=0)
        succeeded(materialize("registrations"))
    assert query("SELECT number FROM syncs ORDER BY number") == [(3,), (4,)]
    found = query("SELECT score, from_sync, to_sync FROM registration_history WHERE id = 'a' ORDER BY score")
    assert found == [(1, 1, 2), (2, 2, 3), (3, 3, 3), (4, 3, 4), (5, 4, None)]


def test_missing_ids_that_were_dropped_delay_a_deletion(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """By one sync, and nothing else is deleted."""
    deleted = "SELECT id FROM registrations WHERE _deleted_at IS NOT NULL"
    for rows in (scored(a=1, b=2), scored(a=1)):
        api.rows["registrations"] = rows
        succeeded(materialize("registrations"))
    change_by_hand("DROP TABLE missing_ids")
    for expected in ([], [("b",)]):
        succeeded(materialize("registrations"))
        assert query(deleted) == expected
    assert_matches(query, 4)


def test_a_newly_tracked_column_begins_with_the_next_sync(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """The column is added to the history, and rows with a value of it get a state; others keep theirs."""
    api.rows["registrations"] = [*scored(a=1, b=2), {"id": "c"}]
    succeeded(materialize("registrations"))
    # As before the column was tracked: hashes say that too.
    change_by_hand("ALTER TABLE registration_history DROP COLUMN score", "UPDATE registrations SET _hash = 0")
    succeeded(materialize("registrations"))
    assert_matches(query, 2)
    assert query("SELECT id, score, from_sync, to_sync FROM registration_history ORDER BY id, from_sync") == [
        *(("a", None, 1, 2), ("a", 1, 2, None), ("b", None, 1, 2), ("b", 2, 2, None), ("c", None, 1, None))
    ]


@pytest.mark.parametrize("left", [scored(a=1), []])
def test_a_column_that_is_new_deletes_no_row_and_needs_none(
    api: ContractApi, materialize: Materialize, query: Query, left: list[Row]
) -> None:
    """A table that lacks a column gets it, also without any row; a row that has been found again is not deleted."""
    api.rows["registrations"] = left
    succeeded(materialize("registrations"))
    api.rows["registrations"] = []
    succeeded(materialize("registrations"))
    change_by_hand("ALTER TABLE registrations DROP COLUMN pass_status")  # as in a version that did not declare it
    api.rows["registrations"] = left
    succeeded(materialize("registrations"))
    assert query("SELECT id, pass_status, _deleted_at FROM registrations") == [("a", None, None)][: len(left)]
    assert_matches(query, 3)


def test_a_clock_that_is_set_back_ends_no_state_before_it_began(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Times of states never overlap: what has begun in the future ends there too."""
    api.rows["registrations"] = scored(a=1, b=1)
    succeeded(materialize("registrations"))
    change_by_hand("UPDATE registration_history SET valid_from = TIMESTAMPTZ '2100-01-01 00:00:00+00'")
    for sync, score in ((2, 2), (3, 3)):
        api.rows["registrations"] = scored(a=score, b=1)
        succeeded(materialize("registrations"))
        assert_matches(query, sync)
