"""The tables as a document: `python -m analytics_assets.tables.document` prints it."""

from collections.abc import Mapping

from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table


def as_markdown(tables: Mapping[str, Table]) -> str:
    """The tables as Markdown: per table a heading, its description, and one row per column."""
    lines: list[str] = []
    for table in tables.values():
        lines += [f"### {table.name}", "", table.description, "", "| column | type | meaning |", "| --- | --- | --- |"]
        for c in table.columns:
            lines.append(f"| `{c.name}` | {c.type.label} | {c.description}{' *Personal data.*' * c.personal} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print("# The tables\n\nWritten by `make docs` from `analytics_assets/tables`.\n")  # noqa: T201
    print(as_markdown({**RESOURCES, **MARTS, **LEDGER, **VIEWS}), end="")  # noqa: T201
