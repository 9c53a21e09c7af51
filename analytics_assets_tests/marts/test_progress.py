"""What is told from the states of the history: how registrations developed, and what the last sync changed."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import checks, glance
from analytics_assets.defs.catalog import table_schema
from analytics_assets.load import statements
from analytics_assets.load.dialect import SqlClient
from analytics_assets.marts import dictionary, lineage
from analytics_assets.tables.bookkeeping import SYNCS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.defs.test_column_profile import shown
from analytics_assets_tests.marts.test_outcomes import picture

HISTORY = HISTORIES["registrations"]
BY_DAY = MARTS["progress_by_day"]
START = datetime(2024, 2, 26, tzinfo=UTC)  # the next days have a 29 February among them
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
State = dict[str, Any]
Row = tuple[str, date, int, int, int, int]


@pytest.fixture
def client(each_warehouse: str) -> Iterator[SqlClient]:
    """A warehouse with empty tables, and two trainings with and one without registrations."""
    with warehouse().connection() as client:
        statements.make_dataset(client)
    with warehouse().connection() as client:
        for table in (SYNCS, HISTORY, RESOURCES["registrations"], RESOURCES["trainings"]):
            statements.make(client, table)
        for training in ("a", "b", "nobody's"):
            statements.insert(
                client, RESOURCES["trainings"], id=training, name=training.upper(), _changed_at=START, _page=1
            )
        yield client


def put(client: SqlClient, times: Iterable[datetime], states: Iterable[State]) -> None:
    """Write syncs of registrations at these times, numbered from 1, and states, dated by the numbers of their syncs."""
    starts = dict(enumerate(times, 1))
    counts = dict.fromkeys(("row_count", "rejected", "deleted", "pages", "calls"), 0)
    for number, time in starts.items():
        statements.insert(
            client, SYNCS, resource="registrations", number=number, started_at=time, finished_at=time, **counts
        )
    # That of another resource has nothing to do with it.
    late = START + 99 * DAY
    statements.insert(client, SYNCS, resource="users", number=99, started_at=late, finished_at=late, **counts)
    for state in states:
        began, ended = starts[state["from_sync"]], starts.get(state.get("to_sync", 0))
        statements.insert(client, HISTORY, **state, valid_from=began, valid_to=ended)


def made(client: SqlClient) -> list[Row]:
    """The rows of the mart after it was refilled."""
    statements.refill(client, BY_DAY, lineage.query(BY_DAY.name))
    counts = "training_id, day, registrations, completed, overdue, in_progress"
    return [
        (row[0], row[1], *map(int, row[2:]))
        for row in client.execute_sql(f"SELECT {counts} FROM {BY_DAY.name} ORDER BY 1, 2") or []
    ]


def near_midnight(chance: random.Random, most: int) -> datetime:
    """A time in one of this many days, often within a second of midnight."""
    moment = chance.choice([timedelta(), SECOND, -SECOND, timedelta(microseconds=-1), DAY * chance.random()])
    return START + chance.randrange(most) * DAY + moment


def random_states(chance: random.Random, syncs: int) -> Iterator[State]:
    """The states of forty registrations: changes, deletions and returns at random, and contents that change."""
    for number in range(40):
        began, current = chance.randint(1, syncs), True
        while began <= syncs:
            if current:
                ended = chance.choice([None, *range(began + 1, syncs + 1)])
                state = {
                    "id": str(number),
                    "content_id": chance.choice(["a", "a", "b", "a path", None]),
                    "is_completed": chance.choice([True, False, None, None]),
                    "completed_at": chance.choice([None, None, None, START]),
                    "completion_percentage": chance.choice([None, 0.0, 50.0]),
                    "due_at": chance.choice([None, near_midnight(chance, 16)]),
                    "due_date": chance.choice([None, near_midnight(chance, 16)]),
                    "from_sync": began,
                    "to_sync": ended,
                }
                yield {name: value for name, value in state.items() if value is not None}
                if ended is None:
                    break
                began = ended
            else:
                began += chance.randint(1, 3)  # it comes back
            current = not current or chance.random() < 0.7


def status(state: State, moment: datetime) -> str:
    """What an analyst would call it at that moment."""
    due = state.get("due_at", state.get("due_date"))
    if state.get("is_completed") or "completed_at" in state:
        return "completed"
    if due and due < moment:
        return "overdue"
    return "in_progress" if state.get("completion_percentage", 0) > 0 else "not_started"


def told(times: list[datetime], states: list[State]) -> Iterator[Row]:
    """The rows of the mart by asking each state on each day."""
    for training in ("a", "b"):
        own = [state for state in states if state.get("content_id") == training]
        days = [times[state["from_sync"] - 1].date() for state in own]
        while days and (day := min(days)) <= times[-1].date():
            end = datetime.combine(day, datetime.min.time(), UTC) + DAY
            found = Counter(
                status(state, end)
                for state in own
                if times[state["from_sync"] - 1] < end
                and not ("to_sync" in state and times[state["to_sync"] - 1] < end)
            )
            yield training, day, found.total(), found["completed"], found["overdue"], found["in_progress"]
            days = [day + DAY]


@pytest.mark.parametrize("seed", range(6))
def test_each_day_has_the_states_at_its_end(client: SqlClient, seed: int) -> None:
    """Sums of events give what asking every state on every day gives, also at midnight, for deletions and returns."""
    chance = random.Random(seed)
    times = sorted(near_midnight(chance, 12) for _ in range(14))
    states = [*random_states(chance, len(times))]
    put(client, times, states)
    rows = made(client)
    assert rows == [*told(times, states)]
    assert {row[0] for row in rows} == {"a", "b"}
    assert sum(row[4] for row in rows) > 10, "some are overdue"
    damaged = [claim.name for claim in checks.CLAIMS if claim.table is BY_DAY and client.execute_sql(claim.offenders)]
    assert damaged == ["last_day_agrees"], "`registrations` is empty in this test"


def test_a_clock_that_was_set_back_mixes_nothing_up(client: SqlClient) -> None:
    """The order of syncs is that of their numbers: the table ends with the last one, and has all it has seen."""
    times = [START, START + 40 * DAY, START + DAY, START + 2 * DAY]
    one = {"id": "1", "content_id": "a"}
    put(
        client,
        times,
        [
            {**one, "from_sync": 1, "to_sync": 2},
            {**one, "from_sync": 2, "to_sync": 3, "is_completed": True},
            {**one, "from_sync": 3},
            {"id": "2", "content_id": "a", "from_sync": 2},
        ],
    )
    day = START.date()
    assert made(client) == [("a", day, 1, 0, 0, 0), ("a", day + DAY, 2, 0, 0, 0), ("a", day + 2 * DAY, 2, 0, 0, 0)]


def test_without_states_there_is_no_row(client: SqlClient) -> None:
    """Before the first sync, and with one that has found nothing, the table is empty."""
    assert made(client) == []
    put(client, [START], [])
    assert made(client) == []


def test_a_long_history_has_every_day(client: SqlClient) -> None:
    """Days are not cut off, should the clock of the API have stood at its zero once."""
    put(client, [datetime(1970, 1, 1, tzinfo=UTC), START], [{"id": "1", "content_id": "a", "from_sync": 1}])
    assert len(made(client)) == (START - datetime(1970, 1, 1, tzinfo=UTC)).days + 1


def test_what_the_last_sync_changed(client: SqlClient) -> None:
    """Per registration the state of the last sync is compared with the one before it, by the numbers of the syncs."""
    times = [START + n * DAY for n in range(4)]
    due = {"due_at": times[2] + SECOND}  # after the last sync but one
    late: State = {"due_at": times[1]}
    done: State = {"is_completed": True}
    states: dict[str, list[State]] = {
        "stays": [{"from_sync": 1}],
        "new": [{"from_sync": 4}],
        "new and done": [{"from_sync": 4, **done}],
        "done": [{"from_sync": 2, "to_sync": 4}, {"from_sync": 4, **done}],
        "done before": [{"from_sync": 1, "to_sync": 4, **done}, {"from_sync": 4, **done, "score": 9.0}],
        "done long ago": [{"from_sync": 1, **done}],
        "falls due": [{"from_sync": 1, **due}],
        "falls due, changed": [{"from_sync": 1, "to_sync": 4, **due}, {"from_sync": 4, **due, "score": 9.0}],
        "late before": [{"from_sync": 1, **late}],
        "late before, changed": [{"from_sync": 1, "to_sync": 4, **late}, {"from_sync": 4, **late, "score": 9.0}],
        "due date set back": [{"from_sync": 1, "to_sync": 4}, {"from_sync": 4, **late}],
        "due exactly then": [{"from_sync": 1, "due_date": times[3]}],
        "done in time": [{"from_sync": 1, "to_sync": 4, **due}, {"from_sync": 4, **due, **done}],
        "deleted": [{"from_sync": 1, "to_sync": 4, **due}],
        "deleted before": [{"from_sync": 1, "to_sync": 3}],
        "back": [{"from_sync": 1, "to_sync": 2}, {"from_sync": 4}],
        "changed before": [{"from_sync": 1, "to_sync": 3}, {"from_sync": 3, **done}],
    }
    put(client, times, [{"id": name, **state} for name, of in states.items() for state in of])
    newly = {
        "newly_registered": 2,  # new, new and done
        "newly_completed": 3,  # new and done, done, done in time
        "newly_overdue": 3,  # falls due, falls due and changed, due date set back
        "newly_deleted": 1,
    }
    assert glance._newly(client) == newly


def test_in_the_first_sync_all_are_new(client: SqlClient) -> None:
    """Nothing counts as newly completed or overdue if nothing is known from before."""
    assert set(glance._newly(client).values()) == {0}
    put(client, [START], [{"id": str(n), "from_sync": 1, "is_completed": True} for n in range(3)])
    assert glance._newly(client) == {**dict.fromkeys(glance.NEWLY, 0), "newly_registered": 3}


@pytest.mark.usefixtures("each_warehouse")
def test_the_mart_after_two_syncs(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Of syncs of an API the table has the day on which they were, every check holds, and the pages show both."""
    api.rows["users"], api.rows["trainings"] = [{"id": 1}], [{"id": "t", "name": "Safety"}, {"id": "u"}]
    api.rows["registrations"] = [{"id": n, "content": {"id": "t"}, "due_date": "2024-01-01"} for n in range(3)]
    names = ("users", "trainings", "registrations", "registrations_enriched", BY_DAY.name)
    assert materialize(*names).success
    api.rows["registrations"][0]["is_completed"] = True
    api.rows["registrations"] += [{"id": "new", "content": {"id": "t"}}]
    result = materialize(*names)
    assert result.success
    ended = "SELECT training_id, registrations, completed, overdue FROM progress_by_day ORDER BY day DESC LIMIT 1"
    assert query(ended) == [("t", 4, 1, 2)]
    broken = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert broken == {"users_are_matched"}
    assert next(iter(shown(result, BY_DAY.name))) == "progress_chart"
    [event] = [e for e in result.get_asset_materialization_events() if e.step_key == "registrations_enriched"]
    newly = {name: event.materialization.metadata[name].value for name in glance.NEWLY}
    assert newly == {"newly_registered": 1, "newly_completed": 1, "newly_overdue": 0, "newly_deleted": 0}


def test_the_pages_show_how_it_developed(client: SqlClient, materialize: Materialize) -> None:
    """The mart's page begins with a chart of its days, that of the join says what the last sync changed."""
    statements.make(client, RESOURCES["users"])
    states: list[State] = [{"id": "1", "from_sync": 1, "is_completed": True}, {"id": "2", "from_sync": 2}]
    put(client, [START, START + DAY], [{**state, "content_id": "a", "due_at": START} for state in states])
    for state in states:
        done = {name: state[name] for name in ("id", "is_completed") if name in state}
        statements.insert(client, RESOURCES["registrations"], **done, content_id="a", _changed_at=START, _page=1)
    result = materialize(BY_DAY.name, "registrations_enriched")
    assert result.success
    texts = shown(result, BY_DAY.name)
    assert [*texts][:2] == ["progress_chart", "preview"]
    words = [*picture(texts["progress_chart"]).itertext()]
    assert {"26 Feb", "27 Feb", "completed", "overdue"} <= {word.strip() for word in words}
    assert "2024\u201102\u201126, 2024\u201102\u201127" in texts["profile"]
    [event] = [e for e in result.get_asset_materialization_events() if e.step_key == "registrations_enriched"]
    newly = {name: event.materialization.metadata[name].value for name in glance.NEWLY}
    assert newly == {"newly_registered": 1, "newly_completed": 0, "newly_overdue": 1, "newly_deleted": 0}
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert failed == {"users_are_matched"}, "there are none in this test"


def damage(client: SqlClient, claim: str, statement: str) -> list[str]:
    """What a claim about the mart finds after a statement."""
    client.execute_sql(statement)
    [found] = [one for one in checks.CLAIMS if one.table is BY_DAY and one.name == claim]
    return sorted(key for (key,) in client.execute_sql(found.offenders) or [])


def test_the_claims_about_the_mart_find_damage(client: SqlClient) -> None:
    """A lost day, a row that comes twice, a count below zero and counts that do not agree are each found by its key."""
    put(client, [START, START + 2 * DAY], [{"id": "1", "content_id": "a", "from_sync": 1}])
    for number in ("1", "2"):
        statements.insert(client, RESOURCES["registrations"], id=number, content_id="a", _changed_at=START, _page=1)
    made(client)
    assert damage(client, "last_day_agrees", "SELECT 1") == ["a"]
    assert damage(client, "last_day_agrees", "DELETE FROM registrations WHERE id = '2'") == []
    assert damage(client, "last_day_agrees", "UPDATE registrations SET is_completed = true") == ["a"]
    again = f"INSERT INTO {BY_DAY.name} SELECT * FROM {BY_DAY.name} WHERE day = date '2024-02-27'"
    assert damage(client, "no_day_is_missing", f"DELETE FROM {BY_DAY.name} WHERE day = date '2024-02-26'") == []
    assert damage(client, "training_id_and_day_is_a_key", again) == ["a 2024-02-27"]
    assert damage(client, "no_day_is_missing", "SELECT 1") == ["a"]
    negative = f"UPDATE {BY_DAY.name} SET overdue = -1 WHERE day = date '2024-02-28'"
    assert damage(client, "parts_fit_into_the_whole", negative) == ["a 2024-02-28"]


def test_a_history_belongs_to_the_asset_of_its_resource() -> None:
    """Dagster's graph and the lineage name `registrations`, the words and the picture the history itself."""
    spec = defs.resolve_asset_graph().get(dg.AssetKey(BY_DAY.name))
    assert {key.to_user_string() for key in spec.parent_keys} == {"registrations", "trainings"}
    assert lineage.sources(BY_DAY.name) == ["registrations", "trainings"]
    read = lineage.of(BY_DAY.name)
    assert read.reads == ["registration_history", "syncs", "trainings"]
    assert "`registration_history.is_completed`" in read.origin("completed")
    deps = spec.metadata["dagster/column_lineage"]
    assert isinstance(deps, dg.TableColumnLineage)
    assert {dep.asset_key.to_user_string() for of in deps.deps_by_column.values() for dep in of} == {
        "registrations",
        "trainings",
    }
    assert "registration_history.is_completed" in {dep.column_name for dep in deps.deps_by_column["completed"]}
    meant = {column.name: dictionary.source(HISTORY, column) for column in HISTORY.columns}
    assert meant["score"] == "`registrations.score`"
    assert meant["valid_from"] == meant["to_sync"] == "the sync"


def test_a_key_of_two_columns_makes_neither_unique() -> None:
    """The catalog marks a column as unique only if it is a key alone."""
    tables = (BY_DAY, HISTORY, SYNCS, MARTS["training_outcomes"])
    unique = {table: [c.name for c in table_schema(table).columns if c.constraints.unique] for table in tables}
    assert unique == {BY_DAY: [], HISTORY: [], SYNCS: [], MARTS["training_outcomes"]: ["training_id"]}


def test_a_history_that_no_sync_has_written_yet_is_named(client: SqlClient, materialize: Materialize) -> None:
    """After an upgrade the mart says which asset to materialize first."""
    client.execute_sql(f"DROP TABLE {HISTORY.name}")
    warehouse().release()
    result = materialize(BY_DAY.name)
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data
    assert failure.user_failure_data.description == (
        "progress_by_day needs registration_history, which no run has loaded yet; materialize registrations first"
    )


def test_a_chart_of_days_ends_with_the_last_sixty() -> None:
    """It fits into the page with large numbers, and a first day is one bar."""
    counts = [(START.date() + n * DAY, status, 1_234_567 + n) for n in range(400) for status in glance.OUTCOMES]
    markdown = str(glance.chart("Title", counts, glance.OUTCOMES, glance.DAY).value)
    assert len(markdown) < 15_000
    words = " ".join(picture(markdown).itertext())
    assert "the last 60 days" in words
    assert f"{START + 340 * DAY:%d %b}".lstrip("0") in words
    [*bars] = picture(str(glance.chart("", counts[:2], glance.OUTCOMES, glance.DAY).value)).iter(
        "{http://www.w3.org/2000/svg}rect"
    )
    assert len(bars) == 2
    nothing = glance.chart("", [(START.date(), "overdue", 0)], glance.OUTCOMES, glance.DAY)
    assert "svg" in str(nothing.value)
