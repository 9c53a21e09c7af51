"""The first entries on a mart's page: a short table or a chart of its rows, and numbers that Dagster plots.

Labels are short, because the longest one narrows every value.

Charts are drawn here, in 10 kB. An SVG of pygal has 58 kB, the UI allows 15, and reducing it takes more code than
drawing; Vega takes half a second to start.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import dagster as dg

from analytics_assets.defs.picture import BLUE, GREEN, GREY, ORANGE, embedded, svg, text
from analytics_assets.load import statements
from analytics_assets.load.dialect import SqlClient
from analytics_assets.tables.resources import HISTORIES

INLINE = 1000  # characters of Markdown that the UI shows only as a link
NAME, BAR = 31, 10  # characters of the longest name and the longest bar
WIDTH, LEFT, RIGHT, TOP, FOOT = 600, 70, 590, 34, 220  # pixels: the chart's width, and where its bars are
CENTRED = ' text-anchor="middle"'
STATUSES = {"completed": GREEN, "in progress": BLUE, "not started": GREY, "overdue": ORANGE}
LEARNERS = {"nothing overdue": BLUE, "something overdue": ORANGE}
OUTCOMES = {"overdue": ORANGE, "completed": GREEN}  # the few at the bottom, where their height can be compared


class Unit(NamedTuple):
    """What a bar of a chart stands for: its name, the number of a date's unit, and the text below a bar by number.

    A chart has at most this many bars, because one page of the UI loads the charts of 100 materializations.
    """

    name: str
    number: Callable[[date], int]
    label: Callable[[int], str]
    most: int


MONTH = Unit(
    "month",
    lambda day: 12 * day.year + day.month - 1,
    lambda number: f"{date(number // 12, number % 12 + 1, 1):%b %y}",
    24,
)
DAY = Unit("day", date.toordinal, lambda number: f"{date.fromordinal(number):%d %b}".lstrip("0"), 60)


def _registrations_enriched(client: SqlClient) -> dict[str, Any]:
    query = (
        "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC'), replace(status, '_', ' '), count(*) "
        "FROM registrations_enriched GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = client.execute_sql(query) or []
    return {
        "status_chart": chart("Registrations by month and status", counts, STATUSES),
        **{status: sum(n for _, of, n in counts if of == status) for status in ("completed", "overdue")},
        **_newly(client),
    }


HISTORY = HISTORIES["registrations"].name
DUE = "coalesce(due_at, due_date)"
# The states of registrations that may have changed in sync {last}, each with the one before it. That sync began at
# {now}, and the one before it at {then}.
CHANGED = f"""
    SELECT from_sync, to_sync, is_done, is_late,
        lag(from_sync) OVER (PARTITION BY id ORDER BY from_sync) AS before,
        lead(from_sync) OVER (PARTITION BY id ORDER BY from_sync) AS after,
        lag(is_done) OVER (PARTITION BY id ORDER BY from_sync) AS was_done,
        CASE WHEN from_sync = {{last}} THEN lag(was_late) OVER (PARTITION BY id ORDER BY from_sync) ELSE was_late END
            AS was_late
    FROM (
        SELECT id, from_sync, to_sync, is_done, NOT is_done AND due < {{now}} AS is_late,
            NOT is_done AND due < {{then}} AS was_late
        FROM (
            SELECT id, from_sync, to_sync, {DUE} AS due,
                coalesce(is_completed, false) OR completed_at IS NOT NULL AS is_done
            FROM {HISTORY} WHERE id IN (
                SELECT id FROM {HISTORY}
                WHERE from_sync = {{last}} OR to_sync = {{last}} OR ({DUE} >= {{then}} AND {DUE} < {{now}})
            )
        ) AS states
    ) AS judged
"""
NEWLY = {
    "newly_registered": "from_sync = {last} AND before IS NULL",
    "newly_completed": "from_sync = {last} AND is_done AND NOT coalesce(was_done, false)",
    "newly_overdue": "to_sync IS NULL AND is_late AND NOT coalesce(was_late, false)",
    "newly_deleted": "to_sync = {last} AND after IS NULL",
}


def _newly(client: SqlClient) -> dict[str, int]:
    """What the last sync changed, as numbers of registrations. In the first sync, all are new, and nothing else is."""
    if not statements.exists(client, HISTORY):
        return {}
    query = "SELECT number, started_at FROM syncs WHERE resource = 'registrations' AND number IS NOT NULL"
    syncs = client.execute_sql(f"{query} ORDER BY number DESC LIMIT 2") or []
    [(first, states)] = client.execute_sql(f"SELECT min(from_sync), count(*) FROM {HISTORY}") or []
    if len(syncs) < 2 or first in (None, syncs[0][0]):
        return {**dict.fromkeys(NEWLY, 0), "newly_registered": states}
    (last, now), (_, then) = syncs
    times = {"now": f"timestamptz '{now.isoformat()}'", "then": f"timestamptz '{then.isoformat()}'"}
    counts = ", ".join(f"count(CASE WHEN {condition} THEN 1 END)" for condition in NEWLY.values())
    query = f"SELECT {counts} FROM ({CHANGED}) AS changed".format(last=last, **times)
    [numbers] = client.execute_sql(query) or []
    return dict(zip(NEWLY, numbers, strict=True))


def _training_outcomes(client: SqlClient) -> dict[str, Any]:
    worst = client.execute_sql(
        "SELECT coalesce(training_name, training_id), overdue, registrations FROM training_outcomes WHERE overdue > 0 "
        "ORDER BY overdue DESC, training_id LIMIT 12"
    )
    [(late,)] = client.execute_sql("SELECT count(*) FROM training_outcomes WHERE overdue > 0") or [(0,)]
    return {"most_overdue": dg.MetadataValue.md(bars(worst or [])), "trainings_overdue": late}


def _learner_progress(client: SqlClient) -> dict[str, Any]:
    query = (
        "SELECT date_trunc('month', last_activity_at AT TIME ZONE 'UTC'), "
        "CASE WHEN overdue > 0 THEN 'something overdue' ELSE 'nothing overdue' END, count(*), "
        "count(CASE WHEN at_risk > 0 THEN 1 END) FROM learner_progress GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = client.execute_sql(query) or []
    return {
        "activity_chart": chart("Learners by month of last activity", [row[:3] for row in counts], LEARNERS),
        "learners_overdue": sum(n for _, of, n, _ in counts if of == "something overdue"),
        "learners_at_risk": sum(at_risk for *_, at_risk in counts),
    }


def _progress_by_day(client: SqlClient) -> dict[str, Any]:
    query = f"SELECT day, {', '.join(f'sum({status})' for status in OUTCOMES)} FROM progress_by_day GROUP BY day"
    counts = [
        (day, status, int(number))
        for day, *numbers in client.execute_sql(query) or []
        for status, number in zip(OUTCOMES, numbers, strict=True)
    ]
    return {"progress_chart": chart("Registrations completed and overdue at the end of the day", counts, OUTCOMES, DAY)}


GLANCE: Mapping[str, Callable[[SqlClient], dict[str, Any]]] = {
    "registrations_enriched": _registrations_enriched,
    "training_outcomes": _training_outcomes,
    "learner_progress": _learner_progress,
    "progress_by_day": _progress_by_day,
}


def of(client: SqlClient, mart: str) -> dict[str, Any]:
    """The metadata that the page of this mart shows first, if there is any."""
    return GLANCE[mart](client) if mart in GLANCE else {}


def bars(rows: Iterable[Sequence[Any]]) -> str:
    """Rows (training, overdue, registrations) as a Markdown table with bars, cut at its end if it is too long."""
    lines, rows = ["| training | overdue | of | |", "| :-- | --: | --: | :-- |"], list(rows)
    for training, overdue, of in rows:
        words = " ".join(training.split())
        plain = re.sub(r"([^\w ,.:;/-])", r"\\\1", words[:NAME]) + "…" * (len(words) > NAME)
        lines.append(f"| {plain} | {overdue} | {of} | {'█' * max(1, round(BAR * overdue / rows[0][1]))} |")
    while len("\n".join(lines)) >= INLINE:
        lines.pop()
    return "\n".join(lines) if rows else "Nothing is overdue."


def chart(title: str, counts: Iterable[Sequence[Any]], inks: Mapping[str, str], unit: Unit = MONTH) -> dg.MetadataValue:
    """A stacked bar per unit of the rows (date, status, number), a colour per status. Null dates are left out."""
    known = {(unit.number(day), status): number for day, status, number in counts if day}
    if not known:
        return dg.MetadataValue.md("Nothing to draw yet.")
    first, last = min(known)[0], max(known)[0]
    units = range(max(first, last - unit.most + 1), last + 1)
    highest = max(1, *(sum(known.get((one, status), 0) for status in inks) for one in units))
    step = next(s for power in range(20) for s in (10**power, 2 * 10**power, 5 * 10**power) if 8 * s >= highest)
    width, height = min((RIGHT - LEFT) / len(units), 60), (FOOT - TOP) / highest  # of a bar, of a number of 1
    drawn = [text(WIDTH / 2, 12, title + f", the last {unit.most} {unit.name}s" * (last - first >= unit.most), CENTRED)]
    for number in range(0, highest + 1, step):
        drawn.append(f'<path d="M{LEFT} {FOOT - number * height:.1f}H{RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>')
        drawn.append(text(LEFT - 6, FOOT - number * height, f"{number:,}", ' text-anchor="end"'))
    for index, one in enumerate(units):
        if index % (1 + len(units) // 9) == 0:
            drawn.append(text(LEFT + (index + 0.5) * width, FOOT + 14, unit.label(one), CENTRED))
    tops = dict.fromkeys(units, float(FOOT))
    for status, ink in inks.items():
        drawn.append(f'<g fill="{ink}">')
        for index, one in enumerate(units):
            tops[one] -= (tall := known.get((one, status), 0) * height)
            box = f'x="{LEFT + (index + 0.1) * width:.1f}" y="{tops[one]:.1f}" width="{0.8 * width:.1f}"'
            drawn.append(f'<rect {box} height="{tall:.1f}"/>' if tall else "")
        drawn.append("</g>")
    legend = (f'<tspan fill="{ink}" dx="12">■</tspan> {status}' for status, ink in inks.items())
    drawn.append(text(WIDTH / 2, FOOT + 40, "".join(legend), CENTRED))
    return dg.MetadataValue.md(embedded(svg(WIDTH, FOOT + 54, drawn), title))
