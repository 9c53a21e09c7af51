"""What an academy of a size costs: the table in README.md, from the published limits and from what was measured.

`python -m deploy.growth` prints it. Registrations grow; the other resources have as many rows to a registration as in
the sample API, and the history is as long.
"""

from collections.abc import Callable
from math import ceil

from analytics_assets.defs.run_plan import WINDOW_OVERLAP
from analytics_assets.sample_api.academy import SIZES, YEARS_OF_HISTORY
from analytics_assets.sample_api.server import WINDOWS
from analytics_assets.settings import Settings

SETTINGS = Settings()  # the defaults
AN_HOUR, BURST = SETTINGS.api_calls_per_hour, SETTINGS.api_calls_burst
PAGE_SIZE, MOST_PAGES = SETTINGS.api_page_size, SETTINGS.most_pages
A_DAY = 24 * AN_HOUR
WINDOW_DAYS = 1 + WINDOW_OVERLAP.days
PAGES_A_SECOND = 25  # eight in flight, each answered after a third of a second
# Measured with registrations like the sample's, 0.8 and 4 million of them, in a DuckDB file.
MEGABYTES, MEGABYTES_A_MILLION = 610, 10  # of memory
KEPT, STAGED = 48_700, 5_500  # bytes on the disk for a page that is kept until it is loaded, and for its typed rows

Calls = Callable[[int], int]
REGISTRATIONS = (10_000, 100_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000, 100_000_000)


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
    """Hours for so many calls where none was sent before: as fast as answers come, behind the burst as is allowed."""
    return max(number / PAGES_A_SECOND / 3600, (number - BURST) / AN_HOUR)


def nightly(number: int) -> float:
    """Hours for so many calls each night: the burst is whole again if there is time between two, else it is gone."""
    return first_load(number) if number <= A_DAY else number / AN_HOUR


def memory(registrations: int) -> float:
    """Gigabytes that a sync takes at its peak."""
    return (MEGABYTES + MEGABYTES_A_MILLION * registrations / 1e6) / 1000


def disk(registrations: int) -> float:
    """Gigabytes in `DLT_DATA_DIR` before the largest resource is loaded."""
    return pages(registrations) * (KEPT + STAGED) / 1e9


def breaks(registrations: int) -> tuple[str, str]:
    """What breaks at this size and did not before, and what to change."""
    limits = [
        (True, "nothing", "nothing"),
        (
            calls(registrations) > BURST,
            "a full sync takes more calls than the burst, so `new_rows_sensor` cannot sync whole resources all day",
            "windows (`API_WINDOW_...`), or a larger `NEW_ROWS_SECONDS`",
        ),
        (
            calls(registrations) > A_DAY,
            "a full sync takes longer than a day",
            "windows at night, and `reconciliation_job` when nothing else has to be fresh; Postgres",
        ),
        (
            pages(registrations) > MOST_PAGES,
            f"`MOST_PAGES` ({MOST_PAGES * PAGE_SIZE:,} rows per resource)",
            f"`MOST_PAGES={pages(registrations) * 2}`; a warehouse for such sizes",
        ),
        (
            calls_with_windows(registrations) > A_DAY,
            "resources without a window take longer than a day too",
            "a higher limit or an export from the API's operator; until then one schedule per resource, days apart",
        ),
    ]
    return next((what, change) for crossed, what, change in reversed(limits) if crossed)


def table() -> str:
    """The table, in Markdown."""
    header = ("registrations", "rows in total", "calls of a full sync", "hours of the first load",
              "hours of a full sync each night", "calls per hour, over a day", "calls with windows",
              "hours with windows", "memory, GB", "disk, GB", "breaks first", "change")  # fmt: skip
    lines = [header, ["---"] * len(header)]
    for size in REGISTRATIONS:
        number, windowed = calls(size), calls_with_windows(size)
        hours = (first_load(number), nightly(number))
        lines.append((f"{size:,}", f"{sum(rows(size).values()):,}", f"{number:,}", *map(_short, hours),
                      f"{number / 24:,.0f}", f"{windowed:,}", _short(nightly(windowed)), f"{memory(size):.1f}",
                      _short(disk(size)), *breaks(size)))  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 0.1 else "under 0.1"


if __name__ == "__main__":
    print(table())  # noqa: T201
