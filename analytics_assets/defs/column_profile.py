"""What an asset's page shows of a table's rows: two of them, and what is in each column.

Each is a Markdown table with a row a column, short enough for the UI to draw it in place. Personal data does not leave
the warehouse for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dlt.destinations.exceptions import DatabaseException

from analytics_assets.load.dialect import SqlClient
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import BOOLEAN, ID, JSON, Column, Table

MOST_CHARACTERS = 999  # of Markdown; of a longer one the UI shows but a link
NAMES = (24, 16)  # characters, 16 beside the long keys of dagster-dlt: a wider table is cut off on a laptop
WIDTHS = (18, 16, 14, 12, 10)  # of a value, the first at which the table is short enough
JSON_WIDTH = 12  # of JSON, which is one word: two of 18 characters are wider than the page
FEW_ROWS = 10_000  # in which distinct values are counted; among more they are estimated
MASK = "•••"
UNBROKEN_HYPHEN = "\u2011"  # or a narrow table breaks a date into three lines
MARKUP = str.maketrans({"|": "¦", "`": "'"})
Line = tuple[list[str], Sequence[Any]]  # of a table: what is shown as it is, and values of the warehouse


def of(client: SqlClient, table: Table, rows: int) -> dict[str, dg.MarkdownMetadataValue]:
    """Preview and profile of a table that has this number of rows, as metadata."""
    if not rows:
        return {"preview": dg.MetadataValue.md("The table has no rows.")}
    preview = inline("column|a row|another", _preview(client, table))
    profile = inline("column|null|distinct|least, greatest", _profile(client, table, rows))
    return {"preview": dg.MetadataValue.md(preview), "profile": dg.MetadataValue.md(profile)}


def _preview(client: SqlClient, table: Table) -> Iterator[Line]:
    """The columns, and their values in the two fullest of a hundred rows. The query itself masks personal data.

    So it does the ids of others: where the API embeds a learner as a bare value, that is the id, be it an address.
    """
    masked = f"CASE WHEN {{}} IS NULL THEN NULL ELSE '{MASK}' END"
    hidden = {c.name for c in table.columns if c.personal or (c.type is ID and c.name != table.key)}
    values = [(masked if c.name in hidden else "{}").format(f'"{c.name}"') for c in table.columns]
    rows = client.execute_sql(f"SELECT {', '.join(values)} FROM {table.name} LIMIT 100") or []
    fields = [index for index, column in enumerate(table.columns) if column.name in table.fields]
    fullest = sorted(rows, key=lambda row: sum(row[index] is None for index in fields))[:2]
    for column, *cells in zip(table.columns, *fullest, strict=True):
        yield [_name(table, column)], [*cells, None][:2]


def _profile(client: SqlClient, table: Table, rows: int) -> Iterator[Line]:
    """The columns with share of nulls, distinct values, least and greatest, all from one pass over the table.

    Ids, JSON and personal data have no least and greatest: those would mislead, say nothing, or tell on somebody. Of a
    boolean the share that is true says more than that there are two values.
    """
    estimated = rows > FEW_ROWS and _can_estimate(client)
    # `count(DISTINCT ...)` for each column would take twice as long.
    counted = f"(SELECT count({{0}}) FROM (SELECT DISTINCT {{0}} FROM {table.name}) AS d)"
    distinct = "approx_count_distinct({})" if estimated else counted
    asked = [part.format(f'"{column.name}"') for column in table.columns for part in _parts(column, distinct)]
    [answers] = client.execute_sql(f"SELECT {', '.join(asked)} FROM {table.name}") or []
    for index, column in enumerate(table.columns):
        filled, found, *ends = answers[4 * index : 4 * index + 4]
        nulls, distinct = _percent(rows - filled, rows), ""
        if column.type is BOOLEAN:
            ends = [f"{_percent(found, filled)} true"] if filled else []
        elif found is not None:
            distinct = _about(min(found, filled)) if estimated else f"{found:,}"
        yield [_name(table, column), nulls, distinct], [tuple(dict.fromkeys(ends))]


def _can_estimate(client: SqlClient) -> bool:
    """Whether the warehouse can estimate; one that cannot counts, which takes it seconds for a million rows."""
    try:
        client.execute_sql("SELECT approx_count_distinct(1)")
    except DatabaseException:
        return False
    return True


def _parts(column: Column, distinct: str) -> Iterator[str]:
    """What is asked about a column: how many values there are, distinct or true ones, the least and the greatest."""
    yield "count({})"
    yield {BOOLEAN: "sum(CASE WHEN {} THEN 1 ELSE 0 END)", JSON: "NULL"}.get(column.type, distinct)
    yield from ("NULL", "NULL") if column.personal or column.type in (ID, JSON, BOOLEAN) else ("min({})", "max({})")


def _name(table: Table, column: Column) -> str:
    return _cut(column.name, NAMES[table.name in RESOURCES])


def _percent(part: int, whole: int) -> str:
    """The share of `part`; 0 % only if it is none of it."""
    return "all" if part == whole else f"{min(99, max(int(part > 0), round(100 * part / whole)))}%"


def _about(number: int) -> str:
    """An estimate, to two digits."""
    return f"~{round(number, min(0, 2 - len(str(number)))):,}"


def inline(header: str, lines: Iterable[Line]) -> str:
    """A Markdown table with the widest values at which the UI still draws it in place."""
    lines, text = [*lines], ""
    for width in WIDTHS:
        rows = ("|".join([*cells, *(_value(value, width) for value in values)]) for cells, values in lines)
        text = "\n".join([header, "|".join("-" * len(header.split("|"))), *rows])
        if len(text) <= MOST_CHARACTERS:
            break
    return text


def _value(value: Any, width: int) -> str:
    """A value, texts in `width` characters and as code: nothing in them is markup, be it a link or a picture."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return f"{value:.6g}"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d}".replace("-", UNBROKEN_HYPHEN)
        case tuple():
            return ", ".join(_value(end, width) for end in value)
    text = str(value).translate(MARKUP)
    if text[:1] in ("[", "{"):
        width = min(width, JSON_WIDTH)
    return f"`{_cut(' '.join(text.split()) or '(empty)', width)}`"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
