"""One sync of one resource: its limits, its counts, and the decision whether it may be loaded."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

FEW = 10  # missing or unreadable rows that are accepted whatever their share


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
    """The API returned far fewer rows than before."""


@dataclass
class Sync:
    """One sync of one resource: its start, its limits, and its counts so far.

    With `window_start`, only rows that the API dates between it and `started_at` are read, else all rows. `known_pages`
    is the number of pages of the last full sync. A sync that resumes another one has `resumed_pages` of it and its
    `started_at`; `began_at` is its own start. A full sync must have `least_rows`; at most `rejected_share` of the rows
    (or ten) may be unreadable. Of the `calls`, `failures` were retried.
    """

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    window_start: datetime | None = None
    least_rows: int = 0
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

    def finish(self) -> None:
        """Raise `TooFewRows` or `TooManyRejected` if the rows must not be loaded."""
        if self.window_start is None and self.rows < self.least_rows:
            raise TooFewRows(
                f"the API returned {self.rows} rows; at least {self.least_rows} were expected after the last sync; if "
                "that is right, accept it once: accept_fewer_rows: true in the configuration of its op (launchpad), or "
                "ACCEPT_FEWER_ROWS=true for a whole `make run`"
            )
        if len(self.rejected) > max(FEW, self.rejected_share * self.rows):
            reasons = Counter(rejected.reason for rejected in self.rejected).most_common(3)
            why = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons)
            raise TooManyRejected(f"{len(self.rejected)} of {self.rows} rows cannot be read: {why}")
