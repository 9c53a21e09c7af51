"""What a mart's page shows of its rows before anybody asks: a short table, a chart, and numbers that Dagster plots.

Their names are short: the longest takes its width from every value.

A chart is Vega-Lite's description of it, drawn by vl-convert. altair would only write that description, and takes
longer to import than a chart takes to draw.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import dagster as dg

from analytics_assets.dialect import SqlClient
from analytics_assets.picture import BLUE, GREEN, GREY, ORANGE, embedded

INLINE = 1000  # characters of Markdown from which on the UI shows a link instead
MONTHS = 24  # with more, four inks make a chart of more than the 15 kB that a page can load a hundred times
NAME, BAR = 31, 10  # characters of the longest name, of the longest bar
STATUSES = {"completed": GREEN, "in progress": BLUE, "not started": GREY, "overdue": ORANGE}
LEARNERS = {"nothing overdue": BLUE, "something overdue": ORANGE}


def _registrations_enriched(client: SqlClient) -> dict[str, Any]:
    counts = client.execute_sql(
        "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC'), replace(status, '_', ' '), count(*) "
        "FROM registrations_enriched GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = counts or []
    return {
        "by_month": chart("Registrations by month and status", counts, STATUSES),
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
    counts = client.execute_sql(
        "SELECT date_trunc('month', last_activity_at AT TIME ZONE 'UTC'), "
        "CASE WHEN overdue > 0 THEN 'something overdue' ELSE 'nothing overdue' END, count(*), "
        "count(CASE WHEN at_risk > 0 THEN 1 END) FROM learner_progress GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = counts or []
    return {
        "by_last_activity": chart(
            "Learners by the month they were last active in", [row[:3] for row in counts], LEARNERS
        ),
        "learners_overdue": sum(n for _, of, n, _ in counts if of == "something overdue"),
        "learners_at_risk": sum(at_risk for *_, at_risk in counts),
    }


GLANCE: Mapping[str, Callable[[SqlClient], dict[str, Any]]] = MappingProxyType(
    {
        "registrations_enriched": _registrations_enriched,
        "training_outcomes": _training_outcomes,
        "learner_progress": _learner_progress,
    }
)


def bars(rows: Iterable[Sequence[Any]]) -> str:
    """Name, number, of how many, as a Markdown table; fewer where they would be too long for one in place."""
    lines, rows = ["| training | overdue | of | |", "| :-- | --: | --: | :-- |"], list(rows)
    for name, number, of in rows:
        words = " ".join(name.split())
        plain = re.sub(r"([^\w ,.:;/-])", r"\\\1", words[:NAME]) + "…" * (len(words) > NAME)
        lines.append(f"| {plain} | {number} | {of} | {'█' * max(1, round(BAR * number / rows[0][1]))} |")
    while len("\n".join(lines)) >= INLINE:
        lines.pop()
    return "\n".join(lines) if rows else "Nothing is overdue."


def chart(title: str, counts: Iterable[Sequence[Any]], inks: Mapping[str, str]) -> dg.MetadataValue:
    """Month (null ones are left out), what was counted, count: a step a month, the newest ones, stacked in an ink each.

    Steps, and not bars: each ink is one line around all months, not a box a month. A page loads a hundred charts.
    """
    import vl_convert  # not where definitions are loaded: its import is quick, its first chart is not

    found = {(month.year * 12 + month.month - 1, of): count for month, of, count in counts if month}
    if not found:
        return dg.MetadataValue.md("Nothing to draw yet.")
    first, last = min(found)[0], max(found)[0]
    values = [
        {"month": f"{month // 12}-{month % 12 + 1:02}-01", "of": of, "count": found.get((min(month, last), of), 0)}
        for month in range(max(first, last - MONTHS + 1), last + 2)  # a step ends where the next one begins
        for of in inks
    ]
    svg = vl_convert.vegalite_to_svg(
        {
            "title": {"text": title, "subtitle": f"the newest {MONTHS} months" if last - first >= MONTHS else ""},
            "width": 560,
            "height": 220,
            "data": {"values": values},
            "mark": {"type": "area", "interpolate": "step-after", "opacity": 1},
            "encoding": {
                "x": {
                    "field": "month",
                    "type": "temporal",
                    "scale": {"type": "utc"},
                    "title": None,
                    "axis": {
                        "grid": False,
                        "ticks": False,
                        "format": "%b %y",
                        "labelOverlap": True,
                        "tickCount": "month",
                    },
                },
                "y": {
                    "field": "count",
                    "type": "quantitative",
                    "title": None,
                    "axis": {"tickCount": 5, "ticks": False, "labelPadding": 5},
                },
                "color": {
                    "field": "of",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": list(inks), "range": list(inks.values())},
                },
            },
            "config": {
                "aria": False,
                "background": "transparent",
                "view": {"stroke": None},
                "axis": {
                    "labelColor": GREY,
                    "domainColor": GREY,
                    "tickColor": GREY,
                    "gridColor": GREY,
                    "gridOpacity": 0.3,
                },
                "legend": {"labelColor": GREY, "orient": "top"},
                "title": {"color": GREY, "subtitleColor": GREY, "anchor": "start"},
            },
        }
    )
    # Labels hidden for want of room, what only a script or a style sheet needs, marks without ink, parts of a pixel.
    svg = re.sub(r'<text[^>]* opacity="0"[^>]*>[^<]*</text>', "", svg)
    svg = re.sub(r' (?:class|role|pointer-events|opacity|version|xmlns:xlink|aria-[a-z]+)="[^"]*"', "", svg)
    svg = re.sub(r'<path d="[^"]*"(?: display="none")?/>', "", svg)
    svg = re.sub(r"([(,A-Zhv]-?\d+)\.\d+", r"\1", svg)
    font = ' font-family="sans-serif" font-size="10px"'  # of nearly every text; once is enough
    svg = f"<svg{font}{svg.replace(font, '').removeprefix('<svg')}"
    return dg.MetadataValue.md(embedded(svg, title))
