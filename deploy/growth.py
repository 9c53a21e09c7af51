"""What an academy of a size costs: the table in README.md, from the published limits and from what was measured.

`python -m deploy.growth` prints it. Registrations grow; the other resources have as many rows to a registration as in
the sample API, and the history is as long.
"""

from collections.abc import Iterator
from math import ceil

from analytics_assets.environment import DEFAULTS
from analytics_assets.sample_api.data import SIZES, YEARS_OF_HISTORY
from analytics_assets.sample_api.server import WINDOWS
from analytics_assets.source import PAGE_SIZE

AN_HOUR, BURST = int(DEFAULTS["API_CALLS_PER_HOUR"]), int(DEFAULTS["API_CALLS_BURST"])
MOST_PAGES = int(DEFAULTS["MOST_PAGES"])
A_DAY = 24 * AN_HOUR
PAGES_A_SECOND = 25  # eight in flight, each answered after a third of a second
WINDOW_DAYS = 1 + float(DEFAULTS["WINDOW_OVERLAP_HOURS"]) / 24

REGISTRATIONS = (10_000, 100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)


def rows(registrations: int) -> dict[str, int]:
    """Rows of each resource of an academy with so many registrations."""
    return {name: ceil(registrations * size / SIZES["registrations"]) for name, size in SIZES.items()}


def pages(row_count: float) -> int:
    return max(1, ceil(row_count / PAGE_SIZE))


def calls(registrations: int) -> int:
    """Of a sync that reads everything."""
    return sum(map(pages, rows(registrations).values()))


def calls_with_windows(registrations: int) -> int:
    """Of a sync a day that reads a window of the resources that have one, and the others whole."""
    share = WINDOW_DAYS / (365 * YEARS_OF_HISTORY["registrations"])
    return sum(pages(count * share if name in WINDOWS else count) for name, count in rows(registrations).items())


def first_load(number: int) -> float:
    """Hours that so many calls take where none was sent before: as fast as answers come, behind the burst as allowed."""
    return max(number / PAGES_A_SECOND / 3600, (number - BURST) / AN_HOUR)


def nightly(number: int) -> float:
    """Hours that so many calls take each night: the burst is whole again if there is time between two, else gone."""
    return first_load(number) if number <= A_DAY else number / AN_HOUR
