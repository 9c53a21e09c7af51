"""The rows of the sample API, each a pure function of an academy and an index, and the pages they stand on.

The rows of six resources have a story of their own, in `stories`. A table or a column that `tables` declares beyond
those is filled here, by its type. HTTP belongs in `server`, answers that no client can read in `faults`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from analytics_assets.sample_api.academy import TOPICS, Academy
from analytics_assets.sample_api.oddities import Draw, Row, leave_gap, pick, spell_time
from analytics_assets.sample_api.stories import STORIES, UNTOLD
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import ADDED, BOOLEAN, COUNT, EMAIL, ID, JSON, NUMBER, TIME, Column


def document(
    academy: Academy, url: str, resource: str, indexes: Sequence[int], number: int, per_page: int, moved: int = 0
) -> dict[str, Any]:
    """The JSON document of page `number`, from 1, of the rows at `indexes`; `url` is that of the resource.

    With `moved` rows new before all others, each page but the first begins as many rows earlier, at most a page.
    """
    start = max((number - 1) * per_page - min(moved, per_page), 0)
    end = start + per_page
    return {
        "page": number,
        "per_page": per_page,
        "has_more": end < len(indexes),
        "url": f"{url}?page={number}&per_page={per_page}",
        "data": {resource: rows(academy, resource, indexes[start:end])},
    }


def rows(academy: Academy, resource: str, indexes: Iterable[int] | None = None) -> list[Row]:
    """The rows of a resource at these indexes as its JSON objects (those it starts with if None).

    This is the truth that what was read over HTTP is compared with. Raises KeyError for a resource that is none.
    """
    declared = RESOURCES[resource].columns if resource in RESOURCES else ()
    own = [column for column in declared if column.name not in ADDED and not column.lifted_from]
    tell, optional = STORIES.get(resource, UNTOLD)
    found = []
    for index in range(academy.sizes[resource]) if indexes is None else indexes:
        draw = academy.draw(resource, index)
        row = tell(academy, index, draw)
        untold = [column for column in own if column.name not in row]
        for column in untold:
            # A stream of its own, so that the other values stay as they are when a column is declared.
            stream = academy.draw(f"{resource}.{column.name}", index)
            row[column.name] = _value(academy, resource, index, column, stream)
        if resource == "paths_users" and draw() < 0.03:
            row = {"id": row["id"]}  # the general contract promises no more here
        else:
            leave_gap(row, optional.split() or [column.name for column in untold if column.nullable], draw)
        found.append(row)
    return found


def _value(academy: Academy, resource: str, index: int, column: Column, draw: Draw) -> Any:
    """A value of the column's type."""
    if column.type in (ID, JSON):  # an object is one that ids are lifted from, or any other
        found = _reference(academy, column, draw)
        return found if column.type is ID else {"id": found, "name": pick(draw, TOPICS)}
    if column.type is TIME:
        return spell_time(academy.created(resource, index, draw())[1], draw)
    if column.type is BOOLEAN:
        return draw() < 0.5
    if column.type in (COUNT, NUMBER):
        return int(100 * draw()) if column.type is COUNT else round(100 * draw(), 1)
    if column.type is EMAIL or column.personal:
        person = academy.person(int(academy.sizes["users"] * draw()))
        return person["email" if column.type is EMAIL else "display_name"]
    return f"{column.name.replace('_', ' ').capitalize()} {1 + int(9 * draw())}"


def _reference(academy: Academy, column: Column, draw: Draw) -> Any:
    """An id of the resource that the column's description gives as `users.id`, or that its name does as `user_id`."""
    described, name = re.search(r"`(\w+)\.id`", column.description), f"_{column.name.removesuffix('_id')}"
    named = (target for target in academy.sizes if name.endswith(f"_{target.removesuffix('s')}"))
    target = described[1] if described else next(named, "")
    tell, _ = STORIES.get(target, UNTOLD)
    index = int(academy.sizes.get(target, 100) * draw())
    return tell(academy, index, academy.draw(target, index))["id"]
