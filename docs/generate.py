"""Writes the documentation generated from the code: the tables and the settings. `make docs` runs it.

    python docs/generate.py [folder]

It writes `docs/tables.md`, `docs/configuration.md`, `.env.example` and the README's table of settings in the folder,
by default this checkout.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from pydantic.fields import FieldInfo

from analytics_assets.settings import CHECKOUT, FOR_LIBRARIES, WINDOW, Settings
from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import Table

FIELDS = {name: field for name, field in Settings.model_fields.items() if field.description}
NOTE = "<!-- Written by `make docs` from `{}`. -->"


def tables() -> str:
    """Every table: a heading, the description and a row per column."""
    lines = ["# The tables", "", NOTE.format("analytics_assets/tables"), ""]
    for table in (*RESOURCES.values(), *HISTORIES.values(), *MARTS.values(), *LEDGER.values(), *VIEWS.values()):
        lines += [f"## {table.name}", "", table.description, "", *_columns(table), ""]
    return "\n".join(lines)


def _columns(table: Table) -> Iterator[str]:
    yield from ("| column | type | meaning |", "| --- | --- | --- |")
    for c in table.columns:
        yield f"| `{c.name}` | {c.type.label} | {c.description}{' *Personal data.*' * c.personal} |"


def settings(*, every: bool) -> str:
    """The settings as a table: all, or only those for the README."""
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for field in FIELDS.values():
        extra = field.json_schema_extra
        if every or (isinstance(extra, dict) and extra["shown"]):
            default = f"`{_default(field)}`" if _default(field) else "none"
            lines.append(f"| `{_name(field)}` | {default} | {field.description} |")
    return "\n".join(lines)


def configuration() -> str:
    return f"""# Configuration

{NOTE.format("analytics_assets/settings.py")}

A value comes from the environment, else from `.env`, else from dlt's `.dlt/secrets.toml` and `.dlt/config.toml`, else
it is the default. A secret may also be a file in `/run/secrets`, such as `/run/secrets/api-key`, which overrides all.
Relative paths are relative to the checkout or, for an installed package, to the current folder. An empty value counts
as not set; only an empty `MASKING_KEY` is refused. Names in TOML files are in lower case, and secrets are read from
`secrets.toml` only.

{settings(every=True)}

dlt's own settings work as [dlt documents them](https://dlthub.com/docs/general-usage/credentials). These have other
defaults here: {", ".join(f"`{name}={value}`" for name, value in FOR_LIBRARIES.items())}.

In a TOML file, `__` separates tables: `DESTINATION__WAREHOUSE__CREDENTIALS` is `credentials` in the table
`[destination.warehouse]`. A plain `dagster dev` or `dg dev` in the checkout works too. Set `DAGSTER_HOME` to the
absolute path of `dagster_home` for it, so that it shows the same history; there Dagster lets `.env` go before the
environment.
"""


def dotenv() -> str:
    """An example of a `.env`, with every setting but the token commented out."""
    lines = ["# Copy to .env and fill in. The environment overrides it. docs/configuration.md explains all settings."]
    for field in FIELDS.values():
        given = f"{_name(field)}={_default(field)}"
        text = wrap(f"# {str(field.description).replace('`', '')}", 118, subsequent_indent="# ")
        examples = [f"#{example}" for example in field.examples or [given]]
        lines += ["", *text, *([given] if field.alias == "API_KEY" else examples)]
    return "\n".join([*lines, ""])


def _name(field: FieldInfo) -> str:
    return f"{WINDOW}<RESOURCE>" if field.alias == f"{WINDOW[:-1]}S" else str(field.alias)


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return "" if field.default in (None, {}) else str(field.default)


def main(folder: Path) -> None:
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "tables.md").write_text(tables())
    (folder / "docs" / "configuration.md").write_text(configuration())
    (folder / ".env.example").write_text(dotenv())
    readme = folder / "README.md"
    table = f"<!-- settings -->\n{settings(every=False)}\n<!-- /settings -->"
    readme.write_text(re.sub(r"(?s)<!-- settings -->.*<!-- /settings -->", lambda _: table, readme.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT)
