"""The results for readers: the goals and tables as Markdown, and a chart.

`python -m benchmarks.report FOLDER` reads the `results.json` there and writes `results.md` and `chart.svg` beside it.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import altair as alt

from benchmarks.goals import Goal, Key, goals, medians, shown
from benchmarks.measuring import Result
from benchmarks.plan import CONTESTANTS, FLOOR, LATENCY, MAIN_JOB

HEADER = """\
# Results

Written by `make bench-full`; [README.md](README.md) explains the method. Medians of {count} runs of each contestant on
{processors} processors.

![Seconds and memory of a first sync]({chart})
"""
COLUMNS = (
    "contestant",
    "sync",
    "wall s",
    "to the floor",
    "processor s",
    "to the floor's",
    "memory MB",
    "calls",
    "database MB",
)


def markdown(results: list[Result]) -> str:
    """The whole document."""
    found = medians(results)
    runs = max(Counter((result.contestant, result.case, result.sync) for result in results).values())
    lines = [HEADER.format(count=runs, processors=os.cpu_count(), chart="chart.svg"), "## Goals", ""]
    lines += goal_table(goals(found))
    for case in dict.fromkeys(result.case for result in results):
        lines += ["", f"## {case}", "", *rows(COLUMNS, case_rows(found, case))]
    lines += ["", "## Versions", ""]
    for contestant in CONTESTANTS.values():
        lines.append(f"- {contestant.label}: {contestant.versions() or 'not installed'}")
    return "\n".join(lines) + "\n"


def goal_table(all_goals: Iterable[Goal]) -> list[str]:
    """One row per goal."""
    figures = ([g.what, "" if g.value is None else shown(g.value), g.wanted, g.verdict] for g in all_goals)
    return rows(("goal", "measured", "wanted", "verdict"), figures)


def case_rows(found: Mapping[Key, Result], case: str) -> Iterator[list[str]]:
    """One row per contestant and kind of sync; a wrong result has no figures."""
    for result in (result for result in found.values() if result.case == case):
        label = CONTESTANTS[result.contestant].label
        if result.problem:
            yield [label, result.sync, result.problem, *[""] * 6]
            continue
        floor = found.get((FLOOR.name, case, result.sync))
        times: list[str] = []
        for name in ("seconds", "processor_seconds"):
            own = getattr(result, name)
            has_floor = floor and not floor.problem
            times += [f"{own:.2f}", f"{own / getattr(floor, name):.2f}" if has_floor else ""]
        figures = (f"{result.memory_mb:,.0f}", f"{result.calls:,.0f}", f"{result.database_mb:.1f}")
        yield [label, result.sync, *times, *figures]


def rows(header: Iterable[str], body: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table."""
    lines = [list(header), *map(list, body)]
    lines.insert(1, ["---"] * len(lines[0]))
    return [f"| {' | '.join(line)} |" for line in lines]


def chart(found: Mapping[Key, Result]) -> alt.HConcatChart:
    """Seconds and memory of first syncs, of the case that most contestants took part in; of such the largest."""
    first = [result for result in found.values() if result.sync == "first" and not result.problem]
    cases = [result.case for result in first if result.case != LATENCY.name]
    case = max(reversed(list(dict.fromkeys(cases))), key=cases.count)
    data = [
        {
            "contestant": CONTESTANTS[result.contestant].label.replace("`", ""),
            "seconds": result.seconds,
            "megabytes": result.memory_mb,
            "ours": result.contestant == MAIN_JOB.name,
        }
        for result in sorted(first, key=lambda result: result.seconds)
        if result.case == case
    ]
    base = alt.Chart(alt.Data(values=data), width=300).encode(
        y=alt.Y("contestant:N", sort=None, title=None, axis=alt.Axis(labelLimit=240)),
        color=alt.condition("datum.ours", alt.value("#2b6cb0"), alt.value("#a0aec0")),
    )

    def bars(field: str, title: str) -> alt.LayerChart:
        bar = base.mark_bar().encode(x=alt.X(f"{field}:Q", title=title))
        text = bar.mark_text(align="left", dx=3).encode(
            text=alt.Text(f"{field}:Q", format=",.1f" if field == "seconds" else ",.0f"), color=alt.value("#1a202c")
        )
        return bar + text

    return alt.hconcat(
        bars("seconds", "seconds"),
        bars("megabytes", "peak memory, MB"),
        title=f"First sync of six resources, {case}",
        background="white",
    )


def main() -> None:
    folder = Path(sys.argv[1])
    results = [Result(**result) for result in json.loads((folder / "results.json").read_text())]
    document = markdown(results)
    (folder / "results.md").write_text(document)
    chart(medians(results)).save(folder / "chart.svg")
    print(document)


if __name__ == "__main__":
    main()
