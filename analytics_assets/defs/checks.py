"""Asset checks: claims about each table, in SQL. The results contain counts and keys, but no values."""

from collections.abc import Iterator
from typing import NamedTuple

import dagster as dg

from analytics_assets.defs import history
from analytics_assets.load.dialect import SqlClient
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.marts import lineage
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import TIME, Table

EXAMPLES = 3
FAR_FUTURE = "2100-01-01 00:00:00+00:00"


class Claim(NamedTuple):
    """A claim about one table. `offenders` is SQL that returns the keys of the rows that violate it, as `id`.

    `read` is SQL that counts `what`, if the claim is about these instead of the table's rows.
    """

    name: str
    table: Table
    description: str
    offenders: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    read: str = ""
    what: str = "rows"


def _id(table: Table) -> str:
    """SQL for the key of a row as one text."""
    return " || ' ' || ".join(f"cast({key} AS text)" for key in table.whole_key)


def _claims_of(table: Table) -> Iterator[Claim]:
    """The claims that follow from the declaration of a table."""
    name, keys = table.name, table.whole_key
    yield Claim(
        f"{'_and_'.join(keys)}_is_a_key",
        table,
        f"{' with '.join(f'`{key}`' for key in keys)} is unique and never null.",
        f"SELECT {_id(table)} AS id FROM {name} GROUP BY {', '.join(keys)} "
        f"HAVING count(*) > 1 OR {' OR '.join(f'{key} IS NULL' for key in keys)}",
    )
    if times := table.names(TIME):
        late = " OR ".join(f"{column} >= timestamptz '{FAR_FUTURE}'" for column in times)
        yield Claim(
            "times_are_not_in_the_far_future",
            table,
            f"No time is after {FAR_FUTURE[:10]}. A later one was read in the wrong unit.",
            f"SELECT {_id(table)} AS id FROM {name} WHERE {late}",
            dg.AssetCheckSeverity.WARN,
        )


ENRICHED = MARTS["registrations_enriched"]
BY_DAY = MARTS["progress_by_day"]


def _totals_agree(mart: Table, parent: str) -> Claim:
    """Per row of `parent` that is not deleted, the mart's counts are those of `registrations_enriched`."""
    counted = "count(CASE WHEN status = '{0}' THEN 1 END) AS {0}"
    columns = ("registrations", "completed", "overdue")
    return Claim(
        "totals_agree",
        mart,
        f"Per row of `{parent}`, all counts of registrations are those of `{ENRICHED.name}`.",
        f"SELECT coalesce(m.{mart.key}, r.{mart.key}) AS id FROM {mart.name} AS m FULL JOIN "
        f"(SELECT {mart.key}, count(*) AS registrations, {counted.format('completed')}, {counted.format('overdue')} "
        f"FROM {ENRICHED.name} WHERE {mart.key} IN (SELECT id FROM {parent} WHERE _deleted_at IS NULL) GROUP BY 1) "
        f"AS r ON r.{mart.key} = m.{mart.key} WHERE "
        + " OR ".join(f"m.{name} IS NULL OR m.{name} <> coalesce(r.{name}, 0)" for name in columns),
    )


def _clock_is_right(table: Table) -> Claim:
    """The last sync of the resource was dated by a right clock: the API's says so, or at least the sync before."""
    seconds = "CAST(abs(clock_ahead) AS BIGINT) || ' s '"
    side = "CASE WHEN clock_ahead > 0 THEN 'ahead of' ELSE 'behind' END || ' the API'"
    return Claim(
        "clock_is_right",
        table,
        "In the last sync, the clock of the machine agreed with the API's to the minute, and with the sync before.",
        f"SELECT last.number || ': ' || CASE WHEN coalesce(clock_ahead, 0) <> 0 THEN {seconds} || {side} "
        "ELSE date_diff('second', last.started_at, last.ended) || ' s too early' END AS id "
        "FROM (SELECT s.*, coalesce((SELECT max(b.finished_at) FROM syncs AS b WHERE b.resource = s.resource AND "
        "b.number = s.number - 1), s.started_at) AS ended FROM syncs AS s) AS last "
        f"WHERE resource = '{table.name}' AND number = (SELECT max(number) FROM syncs WHERE resource = '{table.name}') "
        "AND (coalesce(clock_ahead, 0) <> 0 OR started_at < ended - INTERVAL '1' MINUTE)",
        dg.AssetCheckSeverity.WARN,
        f"SELECT count(*) FROM syncs WHERE resource = '{table.name}'",
        "syncs",
    )


CLAIMS: list[Claim] = [
    *(
        Claim(
            "rows_are_readable",
            table,
            "The last sync could read every row. Those it could not read are in `rejected_rows`.",
            "SELECT coalesce(id, 'one without id') || ': ' || reason AS id "
            f"FROM rejected_rows WHERE resource = '{name}'",
            dg.AssetCheckSeverity.WARN,
            f"SELECT row_count FROM syncs WHERE resource = '{name}' ORDER BY number DESC LIMIT 1",
            "rows read",
        )
        for name, table in RESOURCES.items()
    ),
    *map(_clock_is_right, RESOURCES.values()),
    *(claim for table in (*RESOURCES.values(), *MARTS.values()) for claim in _claims_of(table)),
    Claim(
        "has_every_registration_once",
        ENRICHED,
        "There is exactly one row per registration that is not deleted.",
        "SELECT coalesce(r.id, e.id) AS id "
        "FROM (SELECT id, count(*) AS n FROM registrations WHERE _deleted_at IS NULL GROUP BY id) AS r "
        "FULL JOIN (SELECT registration_id AS id, count(*) AS n FROM registrations_enriched GROUP BY 1) AS e "
        "ON e.id = r.id WHERE r.n IS DISTINCT FROM e.n",
    ),
    Claim(
        "users_are_matched",
        ENRICHED,
        "The learner of every registration is in `users`. Fails for a removed learner.",
        "SELECT registration_id AS id FROM registrations_enriched WHERE NOT has_user",
        dg.AssetCheckSeverity.WARN,
    ),
    Claim(
        "trainings_are_matched",
        ENRICHED,
        "The content of every registration is in `trainings`. Fails for paths and other content that is no training.",
        "SELECT registration_id AS id FROM registrations_enriched WHERE NOT has_training",
        dg.AssetCheckSeverity.WARN,
    ),
    _totals_agree(MARTS["training_outcomes"], "trainings"),
    _totals_agree(MARTS["learner_progress"], "users"),
    Claim(
        "last_day_agrees",
        BY_DAY,
        "Per training, registrations and completions of the last day are those of `registrations`.",
        f"SELECT coalesce(m.training_id, r.training_id) AS id "
        f"FROM (SELECT * FROM {BY_DAY.name} WHERE day = (SELECT max(day) FROM {BY_DAY.name})) AS m "
        "FULL JOIN (SELECT content_id AS training_id, count(*) AS registrations, "
        "count(CASE WHEN coalesce(is_completed, false) OR completed_at IS NOT NULL THEN 1 END) AS completed "
        "FROM registrations WHERE _deleted_at IS NULL AND content_id IN (SELECT id FROM trainings) GROUP BY 1) AS r "
        "ON r.training_id = m.training_id WHERE m.training_id IS NULL "
        "OR m.registrations <> coalesce(r.registrations, 0) OR m.completed <> coalesce(r.completed, 0)",
    ),
    Claim(
        "no_day_is_missing",
        BY_DAY,
        "Every training has one row per day, up to the last day of the table.",
        f"SELECT training_id AS id FROM {BY_DAY.name} GROUP BY training_id "
        f"HAVING count(*) <> date_diff('day', min(day), (SELECT max(day) FROM {BY_DAY.name})) + 1",
    ),
    Claim(
        "parts_fit_into_the_whole",
        BY_DAY,
        "No count is negative, and those of completed, overdue and in progress are together at most all registrations.",
        f"SELECT {_id(BY_DAY)} AS id FROM {BY_DAY.name} WHERE completed < 0 OR overdue < 0 OR in_progress < 0 "
        "OR completed + overdue + in_progress > registrations",
    ),
]


UNCHANGED = "api_is_unchanged"
CURRENT = "parents_are_up_to_date"


def _checks(table: Table) -> dg.AssetChecksDefinition:
    """All checks of one table, which share a connection after the table was made."""
    claims = [claim for claim in CLAIMS if claim.table is table]
    specs = [dg.AssetCheckSpec(claim.name, asset=table.name, description=claim.description) for claim in claims]
    if table.name in RESOURCES:
        promise = "Since the previous sync, the API has no new field, and no column has become null in all rows."
        specs.append(dg.AssetCheckSpec(UNCHANGED, asset=table.name, description=promise))
    else:
        promise = "The last sync of every upstream table succeeded."
        specs.append(dg.AssetCheckSpec(CURRENT, asset=table.name, description=promise))

    @dg.multi_asset_check(name=f"{table.name}_checks", specs=specs, can_subset=True)
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> Iterator[dg.AssetCheckResult]:
        asked = {key.name for key in context.selected_asset_check_keys}
        with warehouse.connection() as client:
            [(rows,)] = client.execute_sql(f"SELECT count(*) FROM {table.name}") or [(0,)]
            for claim in claims:
                if claim.name in asked:
                    yield _result(client, claim, rows)
        if UNCHANGED in asked:
            yield _unchanged(context.instance, table)
        if CURRENT in asked:
            yield _current(context.instance, table)

    return check


def _result(client: SqlClient, claim: Claim, rows: int) -> dg.AssetCheckResult:
    """The result of a claim, with the number of rows that violate it and a few of their keys."""
    examples = f"SELECT id, count(*) OVER () FROM ({claim.offenders}) AS o ORDER BY id LIMIT {EXAMPLES}"
    offenders = client.execute_sql(examples) or []
    if claim.read:
        [(rows,)] = client.execute_sql(claim.read) or [(0,)]
    count, ids = (offenders[0][1] if offenders else 0), ", ".join(str(key) for key, _ in offenders)
    return dg.AssetCheckResult(
        passed=count == 0,
        asset_key=claim.table.name,
        check_name=claim.name,
        severity=claim.severity,
        description=f"Violated by {count:,} of {rows:,} {claim.what}, such as {ids}."
        if count
        else f"Holds for {rows:,} {claim.what}.",
        metadata={"offending_rows": count, "rows": rows, "examples": ids or "none"},
    )


def _unchanged(instance: dg.DagsterInstance, table: Table) -> dg.AssetCheckResult:
    """Compare the API's fields in the last two syncs."""
    notes: dict[str, list[str]] = {"new fields": [], "now null in all rows": []}
    made = history.materializations(instance, table.name, 2)
    if len(made) == 2 and made[0].metadata.get("api") == made[1].metadata.get("api"):
        for note, label in zip(notes, ("extra_fields", "empty_columns"), strict=True):
            now, before = (set(sync.metadata.get(label, ())) for sync in made)
            notes[note] = sorted(now - before)
    changes = "; ".join(f"{note}: {', '.join(names)}" for note, names in notes.items() if names)
    return dg.AssetCheckResult(
        passed=not changes,
        asset_key=table.name,
        check_name=UNCHANGED,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Changed: {changes}." if changes else "Unchanged.",
    )


def _current(instance: dg.DagsterInstance, table: Table) -> dg.AssetCheckResult:
    """Warn about each upstream table that its last run did not update, with the time of its rows."""
    notes = history.behind(instance, lineage.sources(table.name))
    return dg.AssetCheckResult(
        passed=not notes,
        asset_key=table.name,
        check_name=CURRENT,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(f"{parent} {note}." for parent, note in notes.items()) or "All parents are up to date.",
        metadata=dict(notes),
    )


checks = [_checks(table) for table in (*RESOURCES.values(), *MARTS.values())]
