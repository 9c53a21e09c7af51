"""The simple floor: the least code that loads the same raw tables, with the same types, as fast as that goes.

Nothing is tried again, paced, checked, set aside or remembered, no id may come twice in one sync, and no
resource may be empty.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import aiohttp
import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.contestants.clock import Task, task, timed

Row = dict[str, Any]
Read = Callable[[str, bytes], tuple[Sequence[Any], bool]]
Typed = Callable[[str, Sequence[Any], Sequence[int], datetime], pa.Table]

TIME = pa.timestamp("us", "UTC")
BATCH_ROWS = 10_000


def texts(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.string())


def ids(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def jsons(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else orjson.dumps(value).decode() for value in values], pa.string())


def numbers(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.float64())


def booleans(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.bool_())


def times(values: Sequence[Any]) -> pa.Array:
    """Epoch milliseconds, `... UTC` and ISO 8601, mixed."""
    milliseconds = pa.array([None if type(value) is str else value for value in values], pa.float64())
    spelled = pa.array([value if type(value) is str else None for value in values], pa.string())
    from_numbers = pc.round(pc.multiply(milliseconds, 1000)).cast(pa.int64()).cast(TIME)
    return pc.coalesce(from_numbers, pc.replace_substring_regex(spelled, " UTC$", "Z").cast(TIME))


LEARNER = {"user_id": ids, "user_name": texts, "user_email": texts}
COLUMNS: dict[str, dict[str, Callable[[Sequence[Any]], pa.Array]]] = {
    "users": {
        "id": ids, "email": texts, "segments": jsons, "display_name": texts, "first_name": texts, "last_name": texts,
        "created_at": times, "custom_registration_field_values": jsons,
    },
    "trainings": {"id": ids, "type": texts, "name": texts, "created_at": times},
    "registrations": {
        "id": ids, "completed_at": times, "is_completed": booleans, "completion_percentage": numbers, "score": numbers,
        "due_at": times, "due_date": times, "pass_status": texts, "created_at": times, "user": jsons, "user_id": ids,
        "content": jsons, "content_id": ids,
    },
    "certifications": {
        "id": ids, "name": texts, "description": texts, "created_at": times, "awarded_by_name": texts,
        "awarded_by_title": texts,
    },
    "awarded_certifications": {"id": ids, "name": texts, "description": texts, **LEARNER, "awarded_at": times},
    "paths_users": {
        "id": ids, **LEARNER, "path_id": ids, "path_name": texts, "path_description": texts,
        "progress_percentage": numbers, "completed_at": times,
    },
}  # fmt: skip
LIFTED = {"registrations": {"user_id": "user", "content_id": "content"}}


def read(resource: str, body: bytes) -> tuple[list[Row], bool]:
    """The rows of an answer, and whether there are more."""
    answer = orjson.loads(body)
    return answer["data"][resource], answer["has_more"]


def typed(resource: str, rows: Sequence[Row], pages: Sequence[int], seen_at: datetime) -> pa.Table:
    """Rows, each with its page, as the table has them."""
    columns = COLUMNS[resource]
    for name, outer in LIFTED.get(resource, {}).items():
        for row in rows:
            value: Row = row.get(outer) or {}
            row[name] = value.get(outer, value).get("id")
    extras = [{name: value for name, value in row.items() if name not in columns} or None for row in rows]
    arrays = {name: of([row.get(name) for row in rows]) for name, of in columns.items()}
    return pa.table(arrays | {"extra_fields": jsons(extras)} | added(pages, seen_at))


def added(pages: Sequence[int], seen_at: datetime) -> dict[str, pa.Array]:
    """The columns that say when and where a row was read."""
    return {
        "_changed_at": pa.repeat(pa.scalar(seen_at, TIME), len(pages)),
        "_deleted_at": pa.nulls(len(pages), TIME),
        "_page": pa.array(pages, pa.int64()),
    }


async def pages_of(session: aiohttp.ClientSession, resource: str, in_flight: int, read: Read, typed: Typed) -> pa.Table:
    """All pages of a resource, so many requested at once, as one table."""
    started, numbers, ended = datetime.now(UTC), count(1), False
    rows: list[Any] = []
    pages: list[int] = []
    batches = []

    async def work() -> None:
        nonlocal ended
        while not ended:
            page = next(numbers)
            async with session.get(f"/v1/{resource}?per_page=100&page={page}") as response:
                got, has_more = read(resource, await response.read())
            rows.extend(got)
            pages.extend([page] * len(got))
            ended = ended or not has_more
            if len(rows) >= BATCH_ROWS:
                batches.append(typed(resource, rows, pages, started))
                rows.clear()
                pages.clear()

    await asyncio.gather(*(work() for _ in range(in_flight)))
    if rows:
        batches.append(typed(resource, rows, pages, started))
    return pa.concat_tables(batches)


async def sync(task: Task, read: Read = read, typed: Typed = typed) -> None:
    """Read all resources and merge them on their ids, in one transaction."""
    headers = {"Authorization": f"Bearer {task.token}"}
    with duckdb.connect(str(task.file)) as database:
        database.begin()
        database.execute("CREATE SCHEMA IF NOT EXISTS analytics; USE analytics")
        async with aiohttp.ClientSession(task.url, headers=headers) as session:
            for resource in COLUMNS:
                database.register("fresh", await pages_of(session, resource, task.in_flight, read, typed))
                database.execute(f"CREATE TABLE IF NOT EXISTS {resource} AS FROM fresh LIMIT 0")
                database.execute(f"DELETE FROM {resource} WHERE id IN (SELECT id FROM fresh)")
                database.execute(f"INSERT INTO {resource} FROM fresh")
        database.commit()


def main() -> None:
    with timed():
        asyncio.run(sync(task()))


if __name__ == "__main__":
    main()
