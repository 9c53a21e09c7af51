"""Where columns come from: read from the SQL, told in words, drawn; and what cannot be read is refused."""

from xml.etree import ElementTree

import dagster as dg
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs import picture
from analytics_assets.marts import dictionary, lineage
from analytics_assets.marts.lineage import Source, Unreadable
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.schema import TEXT, Column, Table

MART = Table("mart", "One row.", (Column("a", TEXT, "An a."),))


@pytest.mark.parametrize("mart", MARTS)
def test_every_column_of_a_mart_has_a_source_and_a_meaning(mart: str) -> None:
    """Before any run its page says of each column what it means and where it comes from, to people and to tools."""
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(mart)).metadata
    read = lineage.of(mart)
    schema, deps = metadata["dagster/column_schema"], metadata["dagster/column_lineage"]
    assert isinstance(schema, dg.TableSchema)
    assert isinstance(deps, dg.TableColumnLineage)
    for column, shown in zip(MARTS[mart].columns, schema.columns, strict=True):
        assert column.description
        assert (shown.description or "").startswith(f"{column.description} From `")
        assert deps.deps_by_column[column.name] or {source.table for source in read.columns[column.name]} == {"syncs"}
        assert dictionary.source(MARTS[mart], column) in (shown.description or "")


def test_a_source_is_told_with_what_its_table_was_matched_by() -> None:
    """The key in words is the one that refers to the other table; values without a join have none."""
    assert lineage.of("registrations_enriched").origin("user_email") == "`users.email`, matched by `user_id`"
    assert lineage.of("registrations_enriched").origin("due_at") == (
        "`registrations.due_at` and `registrations.due_date`"
    )
    assert lineage.of("learner_progress").origin("certificates_awarded") == (
        "`awarded_certifications.id`, matched by `user_id`"
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT name AS a FROM analytics.trainings", "name"),
        ("WITH t AS (SELECT * FROM analytics.trainings) SELECT name || type AS a FROM t", "name type"),
        ("SELECT coalesce(t.name, t.type) AS a FROM (SELECT name, type FROM analytics.trainings) AS t", "name type"),
        ("SELECT CASE WHEN type = 'x' THEN name END AS a FROM analytics.trainings", "name type"),
        ("SELECT max(name) OVER (PARTITION BY type) AS a FROM analytics.trainings", "name type"),
        ("SELECT count(id) FILTER (WHERE type = 'x') AS a FROM analytics.trainings", "id type"),
        ("SELECT name AS a FROM analytics.trainings UNION ALL SELECT type FROM analytics.trainings", "name type"),
        ("SELECT extra_fields->>'$.x' AS a FROM analytics.trainings", "extra_fields"),
        ("SELECT unnest(from_json(extra_fields, '[\"text\"]')) AS a FROM analytics.trainings", "extra_fields"),
        ("SELECT a.name AS a FROM analytics.trainings AS a JOIN analytics.trainings AS b USING (id)", "name"),
        ("SELECT name AS a FROM trainings", "name"),
        ("SELECT count(*) AS a FROM analytics.trainings", "id"),
        ("SELECT count(1) FILTER (WHERE name = 'x') + 1 AS a FROM analytics.trainings GROUP BY type", "id name"),
        ("WITH t AS (SELECT type, count(*) AS n FROM analytics.trainings GROUP BY 1) SELECT sum(n) AS a FROM t", "id"),
        ("WITH t AS (SELECT type FROM analytics.trainings) SELECT count() AS a FROM t", "type"),
    ],
)
def test_sources_are_found_behind_every_form(query: str, expected: str) -> None:
    """Expressions, subqueries, windows, filters, unions, JSON and counts of rows lead to columns of the warehouse."""
    read = lineage.read(MART, query)
    assert read.reads == ["trainings"]
    assert read.columns["a"] == [Source("trainings", name) for name in expected.split()]


def test_the_rows_of_a_join_are_counted_by_the_keys_of_its_tables() -> None:
    """`count(*)` comes from every table that it counts the rows of."""
    read = lineage.read(MART, "SELECT count(*) AS a FROM analytics.registrations AS r JOIN analytics.users USING (id)")
    assert read.columns["a"] == [Source("registrations", "id"), Source("users", "id")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT [x.upper() for x in [name]] AS a FROM analytics.trainings", "mart.a: its sources cannot be read from"),
        ("SELECT max(columns('na.*')) AS a FROM analytics.trainings", "mart.a: its sources cannot be read from"),
        (
            "SELECT id AS a FROM analytics.users UNION ALL BY NAME SELECT id AS a FROM analytics.trainings",
            "mart: its sources cannot be read from .* BY NAME",
        ),
        ("SELECT nmae AS a FROM analytics.trainings", "mart: Column 'nmae' could not be resolved"),
        ("SELECT t.nmae AS a FROM analytics.trainings AS t", "mart.*nmae"),
        ("SELECT id AS a FROM analytics.trainings, analytics.users", "mart: Column 'id' could not be resolved"),
        ("SELECT a FROM analytics.tranings", "mart: there is no table analytics.tranings"),
        ("SELECT name AS a, id AS b FROM analytics.trainings", "mart.b: the column is not declared, or comes twice"),
        ("SELECT name AS a, id AS A FROM analytics.trainings", "mart.a: the column is not declared, or comes twice"),
        ("SELECT count(*) AS a FROM other.users", "mart: there is no table other.users"),
        ("SELECT id AS a FROM other.analytics.users", "mart: there is no table other.analytics.users"),
        ("INSERT INTO analytics.users SELECT id AS a FROM analytics.users", "mart: it is not a SELECT"),
        (
            "SELECT l.c AS a FROM analytics.users, LATERAL (SELECT r.id AS c FROM analytics.registrations AS r) AS l",
            "mart: its sources cannot be read from",
        ),
        (
            "SELECT sum(length(id)) OVER w AS a FROM analytics.users WINDOW w AS (PARTITION BY email)",
            "mart: its sources cannot be read from",
        ),
        (
            "WITH RECURSIVE t(a, b) AS (SELECT id, email FROM analytics.users UNION ALL SELECT b, a FROM t) "
            "SELECT a FROM t",
            "mart: its sources cannot be read from",
        ),
        ("SELECT name AS b FROM analytics.trainings", "mart.a: the SQL returns no such column"),
        ("SELECT count(*) AS a FROM range(9)", "mart.a: it has no column of a table as a source: "),
        ("SELECT sum(1) AS a FROM analytics.trainings", r"mart.a: it has no column of a table as a source: SUM\(1\)"),
        ("SELECT name AS a FROM", "mart: "),
        ("PIVOT analytics.trainings ON type USING count(id)", "mart: it is not a SELECT"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(query: str, message: str) -> None:
    """A form whose sources cannot be told is an error that names mart and column, never a guess."""
    with pytest.raises(Unreadable, match=message):
        lineage.read(MART, query)


def test_a_mart_without_sql_is_named() -> None:
    """The error says which file is missing."""
    with pytest.raises(Unreadable, match=r"^rooms: there is no analytics_assets/marts/rooms\.sql$"):
        lineage.query("rooms")


@pytest.mark.parametrize("mart", MARTS)
def test_the_picture_has_every_name_and_a_line_a_source(mart: str) -> None:
    """It is small, well-formed, and shows each column, each source and each matched key."""
    read = lineage.of(mart)
    svg = picture.lineage(read)
    drawn = ElementTree.fromstring(svg)
    names = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    paths = [path.get("stroke-dasharray") for path in drawn.iter("{http://www.w3.org/2000/svg}path")]
    assert names >= {mart, *read.columns, *read.reads, *(s.column for of in read.columns.values() for s in of)}
    legend = 1
    assert paths.count(None) == sum(map(len, read.columns.values())) + legend
    assert len(paths) - paths.count(None) == len(read.keys) + legend
    assert len(picture.embedded(svg, "")) < 15_000


def test_a_matched_key_that_gives_no_value_is_drawn_too() -> None:
    """The key of a table that is joined only to be matched stands among the sources."""
    query = "SELECT t.name AS a FROM analytics.trainings AS t JOIN analytics.users AS u ON lower(u.email) = t.id"
    read = lineage.read(MART, query)
    assert read.keys == [(Source("trainings", "id"), Source("users", "email"))]
    assert ">email<" in picture.lineage(read)
