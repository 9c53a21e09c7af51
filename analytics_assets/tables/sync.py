"""One sync of one resource: its limits, its counts, and the decision whether it may be loaded."""

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

import pyarrow as pa

from analytics_assets.tables.schema import Table

CLOCK_SECONDS = 60  # a clock that is wrong by less counts as right
FEW = 10  # missing or unreadable rows that are accepted whatever their share
ACCEPT = (
    "if that is right, accept it once: accept_fewer_rows: true in the configuration of its op (launchpad), or "
    "ACCEPT_FEWER_ROWS=true for a whole `make run`"
)


class Rows(Protocol):
    """The rows of one table, a batch at a time."""

    table: Table

    def batch(self) -> tuple[pa.Table | None, bool]:
        """The next rows, if there are any, and whether there may be more."""


class Rejected(NamedTuple):
    """A row that could not be read: its id if readable, the reason per column without values, page, JSON text."""

    id: str | None
    reason: str
    page: int
    row: str


class Unbelievable(Exception):
    """The rows that the API returned must not be loaded."""


class TooManyRejected(Unbelievable):
    """Too many rows cannot be read; the message has reasons and counts, and no values."""


class TooFewRows(Unbelievable):
    """The API returned far fewer rows than before, or not those that the warehouse has."""


class OtherApi(Unbelievable):
    """The warehouse has rows of another API."""


@dataclass
class Sync:
    """One sync of one resource: its place among the syncs, its limits, and its counts so far.

    Its `number` gives its place: one more than that of the last sync in the warehouse when it began.
    Times are for people, by the clock of the API if it sends one; `clock_ahead` is by how many seconds the clock of the
    machine is ahead of it, and None if it is unknown.

    With `window_start`, only rows that the API dates after it are read, else all rows. `known_pages` is the number of
    pages of the last full sync. A sync that resumes another one has `resumed_pages` of it and its `started_at`;
    `began` is its own start by `time.monotonic`. A full sync must have `least_rows`, and may miss `missing_share` of
    the rows of the warehouse; at most `rejected_share` of the rows may be unreadable. Ten may always be missing or
    unreadable. Rows are read from `api`, and those of the warehouse must be of the same, unless it `accepts_api`. Of
    the `calls`, `failures` were retried.
    """

    number: int = 1
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    clock_ahead: float | None = None
    window_start: datetime | None = None
    api: str = ""
    accepts_api: bool = False
    least_rows: int = 0
    missing_share: float = 1.0
    rejected_share: float = 0.0
    known_pages: int = 0
    rows: int = 0
    pages: int = 0
    resumed_pages: int = 0
    calls: int = 0
    failures: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    extra_fields: set[str] = field(default_factory=set)
    filled: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Start now."""
        self.started_at, self.began = datetime.now(UTC), time.monotonic()

    def set_clock(self, api_time: datetime) -> None:
        """Go by the clock of the API, which shows `api_time` now; the machine's may be set during the sync."""
        ahead = (datetime.now(UTC) - api_time).total_seconds()
        is_first = self.clock_ahead is None
        self.clock_ahead = round(ahead) if abs(ahead) >= CLOCK_SECONDS else 0.0
        if is_first:
            self.started_at -= timedelta(seconds=self.clock_ahead)

    def now(self) -> datetime:
        """The time by the clock of the API, if it is known."""
        return datetime.now(UTC) - timedelta(seconds=self.clock_ahead or 0)

    def check_api(self, last_api: str | None) -> None:
        """Raise `OtherApi` if the rows must not be loaded beside those of the warehouse, which are of `last_api`."""
        if last_api and last_api != self.api and not self.accepts_api:
            raise OtherApi(f"the warehouse has the rows of {last_api}, and these would be of {self.api}; {ACCEPT}")

    def check_missing(self, missing: int, known: int) -> None:
        """Raise `TooFewRows` if too many of the `known` rows of the warehouse would become missing at once."""
        missing -= sum(rejected.id is None for rejected in self.rejected)  # each may be one of them
        most = max(FEW, int(known * self.missing_share))
        if missing > most:
            raise TooFewRows(
                f"the API returned {self.rows} rows, but not {missing} of the {known} that the warehouse has; at most "
                f"{most} were expected to be missing; {ACCEPT}"
            )

    def finish(self) -> None:
        """Raise `TooFewRows` or `TooManyRejected` if the rows must not be loaded."""
        if self.window_start is None and self.rows < self.least_rows:
            raise TooFewRows(
                f"the API returned {self.rows} rows; at least {self.least_rows} were expected after the last sync; "
                f"{ACCEPT}"
            )
        if len(self.rejected) > max(FEW, self.rejected_share * self.rows):
            reasons = Counter(rejected.reason for rejected in self.rejected).most_common(3)
            why = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons)
            raise TooManyRejected(f"{len(self.rejected)} of {self.rows} rows cannot be read: {why}")
