"""The sample on an asset's page: two rows of the table, and a profile of each column.

Both are Markdown tables with one row per column, short enough for the UI to show them in place. They contain no
personal data: the queries leave it out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from dlt.destinations.exceptions import DatabaseException

from analytics_assets.load.dialect import SqlClient
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import BOOLEAN, HASH, ID, JSON, Column, Table

NAMES = (24, 16)  # characters of a column's name; 16 on resources, beside dagster-dlt's long metadata keys
WIDTH, ALL_WIDTHS = 18, 280  # characters of one value, and of a column of values: 21 lines stay below 1,000
JSON_WIDTH = 12  # characters of JSON; it does not wrap, so two values of 18 are wider than the page
FEW_ROWS = 10_000  # up to this many rows distinct values are counted, else estimated
MASK = "•••"
UNBROKEN_HYPHEN = "\u2011"  # keeps a date on one line in a narrow table
MARKUP = str.maketrans({"|": "¦", "`": "'"})
Line = tuple[list[str], Sequence[Any]]  # cells to show verbatim, and values from the warehouse


def of(client: SqlClient, table: Table, rows: int) -> dict[str, dg.MarkdownMetadataValue]:
    """Preview and profile of a table with this number of rows, as metadata; hashes would be wide and mean nothing."""
    table = replace(table, columns=tuple(column for column in table.columns if column.name != HASH))
    if not rows:
        return {"preview": dg.MetadataValue.md("The table has no rows.")}
    preview = inline("column|a row|another", _preview(client, table))
    profile = inline("column|null|distinct|least, greatest", _profile(client, table, rows))
    return {"preview": dg.MetadataValue.md(preview), "profile": dg.MetadataValue.md(profile)}


def _preview(client: SqlClient, table: Table) -> Iterator[Line]:
    """Each column with its values in two of the first hundred rows, those with the fewest nulls.

    The query masks personal data and foreign keys, because the API may send an email address as an id.
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
    """Each column with its share of nulls, number of distinct values, least and greatest value, from one query.

    Ids, JSON and personal data have no least and greatest value: it would mislead, mean nothing, or identify a person.
    A boolean has the share of true values instead.
    """
    estimated = rows > FEW_ROWS and _can_estimate(client)
    # `count(DISTINCT ...)` for each column takes twice as long.
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
    """Whether the warehouse can estimate distinct values. Counting them takes seconds for a million rows."""
    try:
        client.execute_sql("SELECT approx_count_distinct(1)")
    except DatabaseException:
        return False
    return True


def _parts(column: Column, distinct: str) -> Iterator[str]:
    """The expressions for one column: number of values, of distinct or true ones, least and greatest value."""
    yield "count({})"
    yield {BOOLEAN: "sum(CASE WHEN {} THEN 1 ELSE 0 END)", JSON: "NULL"}.get(column.type, distinct)
    yield from ("NULL", "NULL") if column.personal or column.type in (ID, JSON, BOOLEAN) else ("min({})", "max({})")


def _name(table: Table, column: Column) -> str:
    return _cut(column.name, NAMES[table.name in RESOURCES])


def _percent(part: int, whole: int) -> str:
    """The share of `part`; it is 0% only for none and "all" only for all."""
    return "all" if part == whole else f"{min(99, max(int(part > 0), round(100 * part / whole)))}%"


def _about(number: int) -> str:
    """An estimate, rounded to two digits."""
    return f"~{round(number, min(0, 2 - len(str(number)))):,}"


def inline(header: str, lines: Iterable[Line]) -> str:
    """A Markdown table. Values are cut, because the UI shows a table of 1,000 characters only as a link."""
    lines = [*lines]
    width = min(WIDTH, ALL_WIDTHS // max(1, len(lines)))
    rows = ("|".join([*cells, *(_value(value, width) for value in values)]) for cells, values in lines)
    return "\n".join([header, "|".join("-" * len(header.split("|"))), *rows])


def _value(value: Any, width: int) -> str:
    """A value as a cell. Texts are cut to `width` and shown as code, so that no link or picture in them is rendered."""
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
            return _value(value.astimezone(UTC).date(), width)
        case date():
            return f"{value:%Y-%m-%d}".replace("-", UNBROKEN_HYPHEN)
        case tuple():
            return ", ".join(_value(end, width) for end in value)
    text = str(value).translate(MARKUP)
    if text[:1] in ("[", "{"):
        width = min(width, JSON_WIDTH)
    return f"`{_cut(' '.join(text.split()) or '(empty)', width)}`"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
