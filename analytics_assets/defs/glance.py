"""What a mart's page shows of its rows before anybody asks: a short table, a chart, and numbers that Dagster plots.

Their names are short: the longest takes its width from every value.

A chart is drawn by pygal. The libraries that draw more kinds of them better, Vega's among them, take half a second to
start.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

import dagster as dg

from analytics_assets.defs.picture import BLUE, GREEN, GREY, ORANGE, embedded
from analytics_assets.load.dialect import SqlClient

INLINE = 1000  # characters of Markdown from which on the UI shows a link instead
MONTHS = 24  # with more, four inks make a chart of more than the 15 kB that a page can load a hundred times
NAME, BAR = 31, 10  # characters of the longest name, of the longest bar
EIGHTHS = ("", *"▏▎▍▌▋▊▉")  # of a bar's last character
STATUSES = {"completed": GREEN, "in progress": BLUE, "not started": GREY, "overdue": ORANGE}
LEARNERS = {"nothing overdue": BLUE, "something overdue": ORANGE}
CSS = (
    f"text{{font:11px sans-serif;fill:{GREY}}}.title{{font-size:14px}}.title,.axis.x text{{text-anchor:middle}}"
    f".axis.y text{{text-anchor:end}}.background{{fill:none}}.axis.y path{{stroke:{GREY};stroke-opacity:.3}}"
)


def _registrations_enriched(client: SqlClient) -> dict[str, Any]:
    counts = client.execute_sql(
        "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC'), replace(status, '_', ' '), count(*) "
        "FROM registrations_enriched GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = counts or []
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
    counts = client.execute_sql(
        "SELECT date_trunc('month', last_activity_at AT TIME ZONE 'UTC'), "
        "CASE WHEN overdue > 0 THEN 'something overdue' ELSE 'nothing overdue' END, count(*), "
        "count(CASE WHEN at_risk > 0 THEN 1 END) FROM learner_progress GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts = counts or []
    return {
        "activity_chart": chart(
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
        whole, eighths = divmod(max(1, round(8 * BAR * number / rows[0][1])), 8)
        lines.append(f"| {plain} | {number} | {of} | {'█' * whole}{EIGHTHS[eighths]} |")
    while len("\n".join(lines)) >= INLINE:
        lines.pop()
    return "\n".join(lines) if rows else "Nothing is overdue."


def chart(title: str, counts: Iterable[Sequence[Any]], inks: Mapping[str, str]) -> dg.MetadataValue:
    """Month (null ones are left out), what was counted, count: a bar a month of the newest, stacked, in an ink each."""
    import pygal  # not where definitions are loaded: each run and each server would pay for it

    known = {(12 * month.year + month.month - 1, of): count for month, of, count in counts if month}
    if not known:
        return dg.MetadataValue.md("Nothing to draw yet.")
    first, last = min(known)[0], max(known)[0]
    months = range(max(first, last - MONTHS + 1), last + 1)
    drawing = pygal.StackedBar(
        width=600,
        height=280,
        explicit_size=True,
        disable_xml_declaration=True,
        no_prefix=True,
        js=[],
        css=["inline:" + CSS + "".join(f".color-{index}{{fill:{ink}}}" for index, ink in enumerate(inks.values()))],
        value_formatter="{:,.0f}".format,
        x_labels_major_every=3,
        show_minor_x_labels=False,
        max_scale=6,
        truncate_label=-1,
        truncate_legend=-1,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(inks),
    )
    drawing.title = title + f", the newest {MONTHS} months" * (last - first >= MONTHS)
    drawing.x_labels = [f"{date(month // 12, month % 12 + 1, 1):%b %y}" for month in months]
    for of in inks:
        drawing.add(of, [known.get((month, of)) for month in months])
    # Styles that are not ours, what only a script or a pointer needs, hidden lines, digits that nobody sees.
    svg = re.sub(
        r'(?s)<!--.*?-->|{-webkit.*?(?=text{font:)|<path d="[^"]* v[^>]*>|<(script|desc|title)\b.*?</\1>',
        "",
        drawing.render(is_unicode=True),
    )
    svg = re.sub(r' (?:r[xy]|id)="[^"]*"| class="(?:|bars?|major|guides|rect[^"]*)"|(?<=\.\d)\d+', "", svg)
    small = re.sub(r"<g>(<rect[^>]*>)</g>", r"\1", re.sub(r"<g[^>]*/>", "", svg))
    return dg.MetadataValue.md(embedded(small, title))
