"""What the main job is meant to reach, as ratios within one run of the benchmark, and whether it has."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import plan
from benchmarks.measuring import PROJECT, Result
from benchmarks.plan import (
    BEFORE,
    DLT,
    FLOOR,
    LARGE,
    LATENCY,
    MAIN_JOB,
    MIDDLE,
    ONE_PAGE,
    PEERS,
    SIX_ASSETS,
    SMALL,
    TRICKS,
    Case,
)

Key = tuple[str, str, str]  # contestant, case, sync
EXTRACT = PROJECT / "analytics_assets" / "extract"
FIGURES = ("seconds", "processor_seconds", "memory_mb", "calls", "database_mb")


def medians(results: Iterable[Result]) -> dict[Key, Result]:
    """One result for each contestant, case and kind of sync; one with a problem where any has."""
    groups: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.contestant, result.case, result.sync].append(result)
    return {key: _median(key, group) for key, group in groups.items()}


def _median(key: Key, group: list[Result]) -> Result:
    problem = next((result.problem for result in group if result.problem), "")
    if problem:
        return Result(*key, problem=problem)
    return Result(*key, **{name: median(getattr(result, name) for result in group) for name in FIGURES})


def shown(figure: float) -> str:
    """A figure with as many digits as say something."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


@dataclass(frozen=True)
class Goal:
    """A figure and its upper limit (with `least`, lower limit). The value is None if it was not measured."""

    what: str
    value: float | None
    limit: float
    least: bool = False
    mark: float | None = None

    @property
    def verdict(self) -> str:
        """Met, or missed by how much."""
        if self.value is None:
            return "not measured"
        if (self.value >= self.limit) if self.least else (self.value <= self.limit):
            marked = self.mark and (self.value >= self.mark if self.least else self.value <= self.mark)
            return "met, and the mark" if marked else "met"
        return f"missed by {abs(self.value / self.limit - 1):,.0%}"

    @property
    def wanted(self) -> str:
        mark = f" (mark {self.mark:g})" if self.mark else ""
        return f"at {'least' if self.least else 'most'} {shown(self.limit)}{mark}"


def goals(of: Mapping[Key, Result]) -> Iterator[Goal]:
    """All goals, with what was measured."""

    def result(contestant: plan.Contestant, case: Case, sync: str = "first") -> Result | None:
        found = of.get((contestant.name, case.name, sync))
        return None if found is None or found.problem else found

    def ratio(a: Result | None, b: Result | None, figure: str = "seconds") -> float | None:
        return getattr(a, figure) / getattr(b, figure) if a and b else None

    def figure(found: Result | None, name: str) -> float | None:
        return getattr(found, name) if found else None

    for contestant, limits, tricky in ((SIX_ASSETS, (1.5, 1.2), (2.7, 2.2)), (MAIN_JOB, (2.0, 1.6), (3.5, 2.8))):
        for sync in ("first", "repeated"):
            own, what = result(contestant, MIDDLE, sync), f"{contestant.label} / {FLOOR.label}, {sync} sync"
            floor = result(FLOOR, MIDDLE, sync)
            yield Goal(f"time: {what}, {MIDDLE.name}", ratio(own, floor), limits[0], mark=limits[1])
        own, tricks = result(contestant, MIDDLE), result(TRICKS, MIDDLE)
        what = f"{contestant.label} / {TRICKS.label}, {MIDDLE.name}"
        yield Goal(f"time: {what}", ratio(own, tricks), tricky[0], mark=tricky[1])
    late = f"time: {MAIN_JOB.label} / {FLOOR.label}, {LATENCY.name}, 16 in flight"
    yield Goal(late, ratio(result(MAIN_JOB, LATENCY), result(FLOOR, LATENCY)), 1.4, mark=1.2)
    small = f"time: {MAIN_JOB.label} / {BEFORE.label}, {ONE_PAGE.name}"
    yield Goal(small, ratio(result(MAIN_JOB, ONE_PAGE), result(BEFORE, ONE_PAGE)), 0.9, mark=0.7)
    for peer in PEERS:
        case = MIDDLE if result(peer, MIDDLE) else SMALL
        own, theirs = result(MAIN_JOB, case), result(peer, case)
        limits = (16, 20) if peer is DLT else (3, 3.5)
        who = f"{peer.label} / {MAIN_JOB.label}, {case.name}"
        yield Goal(f"time: {who}", ratio(theirs, own), limits[0], least=True, mark=limits[1])
        if peer is DLT:
            yield Goal(f"memory: {who}", ratio(theirs, own, "memory_mb"), 10, least=True)
    for case in (SMALL, LATENCY, MIDDLE, LARGE):
        yield Goal(f"calls of a first sync, {case.name}", figure(result(MAIN_JOB, case), "calls"), case.pages * 1.08)
        again = figure(result(MAIN_JOB, case, "repeated"), "calls")
        yield Goal(f"calls of a repeated sync, {case.name}", again, case.pages + len(case.rows))
    ours, grown = result(MAIN_JOB, MIDDLE), result(MAIN_JOB, LARGE)
    yield Goal(f"time: {LARGE.name} / {MIDDLE.name}", ratio(grown, ours), 4)
    yield Goal(f"memory: {LARGE.name} / {MIDDLE.name}", ratio(grown, ours, "memory_mb"), 1.25)
    least_work = result(MAIN_JOB, ONE_PAGE)
    yield Goal(f"calls, {ONE_PAGE.name}", figure(least_work, "calls"), len(ONE_PAGE.rows))
    yield Goal(f"seconds, {ONE_PAGE.name}", figure(least_work, "seconds"), 2.5)
    yield Goal("lines of `analytics_assets/extract`", sum(map(lines, EXTRACT.glob("*.py"))), 1150, mark=950)


def lines(file: Path) -> int:
    """Lines of a file, empty ones and documentation included."""
    return len(file.read_text().splitlines())
