"""The first entries on a mart's page: a short table or a chart of its rows, and numbers that Dagster plots.

Labels are short, because the longest one narrows every value.

Charts are drawn here, in 10 kB. An SVG of pygal has 58 kB, the UI allows 15, and reducing it takes more code than
drawing; Vega takes half a second to start.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from analytics_assets.defs.picture import BLUE, GREEN, GREY, ORANGE, embedded, svg, text
from analytics_assets.load.dialect import SqlClient

INLINE = 1000  # characters of Markdown that the UI shows only as a link
MONTHS = 24  # at most in a chart, because one page of the UI loads the charts of 100 materializations
NAME, BAR = 31, 10  # characters of the longest name and the longest bar
WIDTH, LEFT, RIGHT, TOP, FOOT = 600, 70, 590, 34, 220  # pixels: the chart's width, and where its bars are
CENTRED = ' text-anchor="middle"'
STATUSES = {"completed": GREEN, "in progress": BLUE, "not started": GREY, "overdue": ORANGE}
LEARNERS = {"nothing overdue": BLUE, "something overdue": ORANGE}


def _registrations_enriched(client: SqlClient) -> dict[str, Any]:
    query = (
        "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC'), replace(status, '_', ' '), count(*) "
        "FROM registrations_enriched GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = client.execute_sql(query) or []
    return {
        "status_chart": chart("Registrations by month and status", counts, STATUSES),
        **{status: sum(n for _, of, n in counts if of == status) for status in ("completed", "overdue")},
    }


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


GLANCE: Mapping[str, Callable[[SqlClient], dict[str, Any]]] = {
    "registrations_enriched": _registrations_enriched,
    "training_outcomes": _training_outcomes,
    "learner_progress": _learner_progress,
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


def chart(title: str, counts: Iterable[Sequence[Any]], inks: Mapping[str, str]) -> dg.MetadataValue:
    """A stacked bar per month of the rows (month, status, number), a colour per status. Null months are left out."""
    known = {(12 * month.year + month.month - 1, status): number for month, status, number in counts if month}
    if not known:
        return dg.MetadataValue.md("Nothing to draw yet.")
    first, last = min(known)[0], max(known)[0]
    months = range(max(first, last - MONTHS + 1), last + 1)
    highest = max(sum(known.get((month, status), 0) for status in inks) for month in months)
    step = next(s for power in range(20) for s in (10**power, 2 * 10**power, 5 * 10**power) if 8 * s >= highest)
    width, height = min((RIGHT - LEFT) / len(months), 60), (FOOT - TOP) / highest  # per month, per unit
    drawn = [text(WIDTH / 2, 12, title + f", the last {MONTHS} months" * (last - first >= MONTHS), CENTRED)]
    for number in range(0, highest + 1, step):
        drawn.append(f'<path d="M{LEFT} {FOOT - number * height:.1f}H{RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>')
        drawn.append(text(LEFT - 6, FOOT - number * height, f"{number:,}", ' text-anchor="end"'))
    for index, month in enumerate(months):
        if index % (1 + len(months) // 9) == 0:
            name = f"{date(month // 12, month % 12 + 1, 1):%b %y}"
            drawn.append(text(LEFT + (index + 0.5) * width, FOOT + 14, name, CENTRED))
    tops = dict.fromkeys(months, float(FOOT))
    for status, ink in inks.items():
        drawn.append(f'<g fill="{ink}">')
        for index, month in enumerate(months):
            tops[month] -= (tall := known.get((month, status), 0) * height)
            box = f'x="{LEFT + (index + 0.1) * width:.1f}" y="{tops[month]:.1f}" width="{0.8 * width:.1f}"'
            drawn.append(f'<rect {box} height="{tall:.1f}"/>' if tall else "")
        drawn.append("</g>")
    legend = (f'<tspan fill="{ink}" dx="12">■</tspan> {status}' for status, ink in inks.items())
    drawn.append(text(WIDTH / 2, FOOT + 40, "".join(legend), CENTRED))
    return dg.MetadataValue.md(embedded(svg(WIDTH, FOOT + 54, drawn), title))
