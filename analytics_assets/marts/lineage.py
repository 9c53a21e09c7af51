"""The sources and join keys of a mart, read from its SQL: as data, and in words.

Nothing is executed. An expression with sources that cannot be read is refused, never guessed; for some expressions,
sqlglot alone returns wrong sources.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import sqlglot
import sqlglot.expressions as exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from analytics_assets.tables.bookkeeping import LEDGER
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import DATASET, Table

TABLES: Mapping[str, Table] = {
    **RESOURCES,
    **{history.name: history for history in HISTORIES.values()},
    **MARTS,
    **LEDGER,
}
# The asset that fills each table; every resource's asset fills those of `LEDGER`.
FILLED_BY: Mapping[str, str] = {
    **{name: name for name in (*RESOURCES, *MARTS)},
    **{history.name: name for name, history in HISTORIES.items()},
}
SCHEMA: dict[str, Any] = {
    DATASET: {table.name: {c.name: c.type.sql for c in table.columns} for table in TABLES.values()}
}


class Unreadable(Exception):
    """The sources of a column cannot be read from the SQL; the message names mart, column and expression."""


class Source(NamedTuple):
    """A column of a table in the warehouse."""

    table: str
    column: str

    def __str__(self) -> str:
        return f"`{self.table}.{self.column}`"


@dataclass(frozen=True)
class Lineage:
    """What a mart's SQL reads: its tables, the sources of each column, and the pairs of keys that joins match.

    The second key of a pair is a column of the joined table.
    """

    table: Table
    reads: list[str]
    columns: Mapping[str, Sequence[Source]]
    keys: list[tuple[Source, Source]]

    @property
    def parents(self) -> list[str]:
        """The assets that fill the tables it reads, sorted. `syncs` adds none: every resource fills it."""
        return sorted({FILLED_BY[name] for name in self.reads if name in FILLED_BY})

    def described(self) -> Table:
        """The mart with the origin of each column after its description."""
        columns = (replace(c, description=f"{c.description} From {self.origin(c.name)}.") for c in self.table.columns)
        return replace(self.table, columns=tuple(columns))

    def origin(self, column: str) -> str:
        """The sources in words, with the keys by which their tables are joined."""
        sources = self.columns[column]
        tables = {source.table for source in sources}
        # The key that refers to the other table, `user_id`, says more than the `id` that every table has.
        matched = {
            next((key.column for key in pair if key.column != TABLES[key.table].key), pair[1].column)
            for pair in self.keys
            if pair[1].table in tables
        }
        by = f", matched by {_listed(f'`{name}`' for name in sorted(matched))}" if matched else ""
        return f"{_listed(map(str, sources))}{by}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def query(mart: str) -> str:
    """The SQL of the mart, in DuckDB's dialect. Raises `Unreadable`."""
    try:
        return (files("analytics_assets") / "marts" / f"{mart}.sql").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Unreadable(f"{mart}: there is no analytics_assets/marts/{mart}.sql") from None


@cache  # called several times by definitions, dictionary and each run
def of(mart: str) -> Lineage:
    """The lineage of the mart. Raises `Unreadable`."""
    return read(MARTS[mart], query(mart))


def sources(mart: str) -> list[str]:
    """All assets upstream of the mart, sorted."""
    parents = of(mart).parents
    return sorted({*parents, *(name for parent in parents if parent in MARTS for name in sources(parent))})


def read(table: Table, query: str) -> Lineage:
    """The lineage of a mart filled by `query`. Raises `Unreadable`."""
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
        for one in tree.find_all(exp.Table):
            if one.db and (one.catalog or one.db != DATASET or one.name not in TABLES):
                path = ".".join(filter(None, (one.catalog, one.db, one.name)))
                raise Unreadable(f"{table.name}: there is no table {path}")
        _refuse_what_is_misread(table, tree)
        tree = qualify(tree, schema=SCHEMA, dialect="duckdb")
    except (SqlglotError, ValueError) as error:
        raise Unreadable(f"{table.name}: {error}") from None
    scope = build_scope(tree) if isinstance(tree, exp.Query) else None
    if scope is None:
        raise Unreadable(f"{table.name}: it is not a SELECT")
    _read_row_counts_as_keys(scope)
    columns = {column.name: _sources(scope, column.name, table) for column in table.columns}
    names = Counter(name.lower() for name in getattr(scope.expression, "named_selects", ()))
    for name in (names - Counter(column.name for column in table.columns)).elements():
        raise Unreadable(f"{table.name}.{name}: the column is not declared, or comes twice; add it to MARTS")
    found = (source for inner in scope.traverse() for source in inner.sources.values())
    reads = {source.name for source in found if isinstance(source, exp.Table) and source.name in TABLES}
    return Lineage(table, sorted(reads), columns, list(dict.fromkeys(_keys(scope, table))))


def _refuse_what_is_misread(table: Table, tree: exp.Expr) -> None:
    for node in tree.walk():
        misread = any(node.args.get(name) for name in ("by_name", "recursive", "windows"))
        if misread or isinstance(node, (exp.Comprehension, exp.Columns, exp.Lateral)):
            alias = node.find_ancestor(exp.Alias)
            name = f"{table.name}.{alias.alias}" if alias else table.name
            raise Unreadable(f"{name}: its sources cannot be read from {node.sql('duckdb')}")


def _read_row_counts_as_keys(scope: Scope) -> None:
    """Make `count(*)` count the key of each table in its FROM, and the first column of each subquery there."""

    def key(source: exp.Table | Scope) -> str | None:
        if isinstance(source, exp.Table):
            return TABLES[source.name].key if source.name in TABLES else None
        return source.expression.named_selects[0] if isinstance(source.expression, exp.Query) else None

    for inner in scope.traverse():
        for call in inner.find_all(exp.Count):
            sources = inner.selected_sources.items()
            keys = [exp.column(name, alias) for alias, (_, source) in sources if (name := key(source))]
            if keys and not call.find(exp.Column):
                call.replace(exp.Count(expressions=keys))


def _sources(scope: Scope, column: str, table: Table) -> list[Source]:
    """The columns of the warehouse from which a column of a query is made, sorted."""
    name = f"{table.name}.{column}"
    try:
        root = lineage(column, scope.expression, scope=scope, dialect="duckdb", copy=False, trim_selects=False)
    except (SqlglotError, ValueError):
        raise Unreadable(f"{name}: the SQL returns no such column") from None
    found = set()
    for leaf in root.walk():
        if isinstance(leaf.expression, exp.Table):
            source = Source(leaf.expression.name, leaf.name.rpartition(".")[2].strip('"'))
            if source.column not in SCHEMA[DATASET].get(source.table, ()):
                raise Unreadable(f"{name}: it is made from {source}, which is not declared")
            found.add(source)
    if not found:
        raise Unreadable(f"{name}: it has no column of a table as a source: {root.expression.sql('duckdb')}")
    return sorted(found)


def _keys(scope: Scope, table: Table) -> Iterator[tuple[Source, Source]]:
    """The pairs of columns that joins match, the column of the joined table second.

    A column that a subquery makes from several others is none of them, and is left out.
    """

    def origin(inner: Scope, column: exp.Column) -> Source | None:
        source = inner.sources.get(column.table)
        if isinstance(source, Scope):
            found = _sources(source, column.name, table)
            return found[0] if len(found) == 1 else None
        return Source(source.name, column.name) if source else None

    for inner in scope.traverse():
        for join in inner.expression.args.get("joins") or ():
            for match in join.args["on"].find_all(exp.EQ) if join.args.get("on") else ():
                sides = sorted(match.find_all(exp.Column), key=lambda side: side.table == join.alias_or_name)
                pair = [key for side in sides if (key := origin(inner, side))]
                if len(pair) == 2:
                    yield pair[0], pair[1]
