"""The faults a resource can be asked for, what each does to an answer, and the one grammar they are written in.

Here belongs all that departs from the contract. A fault changes the `Reply` it is given and knows neither HTTP nor who
asked; `server` sends the reply. Oddities of valid data belong in `oddities`.
"""

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

from analytics_assets.sample_api.oddities import Row

GRAMMAR = "FAULT[:ARGUMENT][@PAGE][*TIMES], several separated by commas"
PATTERN = re.compile(r"(?P<name>\w+?)(:(?P<argument>\d{1,9}))?(@(?P<page>\d{1,9}))?(\*(?P<times>\d{1,9}))?")


@dataclass
class Reply:
    """The answer to a request for one page, on its way out; `document` becomes the body unless there is a `body`."""

    resource: str
    page: int
    per_page: int
    total: int
    read: Callable[[int, int], list[Row]]  # the rows from an index to before another
    document: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes | None = None
    ending: Literal["whole", "slow", "cut", "reset", "hang"] = "whole"

    def show(self, start: int, stop: int) -> list[Row]:
        """Put the rows from `start` to before `stop` into the document, and return them."""
        rows = self.document["data"][self.resource] = self.read(max(start, 0), stop)
        self.document["has_more"] = stop < self.total
        return rows


@dataclass
class Fault:
    """A fault as it was asked for: on one page or on all (None), `times` more times or for ever (None)."""

    name: str
    argument: int
    page: int | None
    times: int | None

    def strikes(self, page: int) -> bool:
        """Whether this request is hit; counts down the times."""
        if self.page not in (None, page) or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def parse_faults(text: str) -> list[Fault]:
    """The faults written in `text`. Raises ValueError, with all valid ones, for what is no fault."""
    return [_parse(part.strip()) for part in text.split(",")]


def help_lines() -> list[str]:
    """One line for each fault: how it is written, and what it does."""
    forms = {name: f"{name}:{ARGUMENTS[name]}" if name in ARGUMENTS else name for name in FAULTS}
    return [f"{forms[name]:<20} {change.__doc__}" for name, change in FAULTS.items()]


def _parse(text: str) -> Fault:
    match = PATTERN.fullmatch(text)
    if (
        match is None
        or match["name"] not in FAULTS
        or (match["argument"] is not None) != (match["name"] in ARGUMENTS)
        or (match["name"] == "status" and not 400 <= int(match["argument"]) <= 599)
    ):
        raise ValueError("\n".join([f"{text!r} is no fault; write {GRAMMAR}, with one of", *help_lines()]))
    page, times = (int(match[key]) if match[key] else None for key in ("page", "times"))
    return Fault(match["name"], int(match["argument"] or 0), page, times)


def status(reply: Reply, code: int) -> None:
    """answers with this error status (400 to 599) and a JSON error"""
    reply.status, reply.document = code, {"error": f"fault: status {code}"}


def retry_after(reply: Reply, seconds: int) -> None:
    """429 with Retry-After in seconds"""
    reply.status, reply.document = 429, {"type": "rate_limited", "message": "fault: too many requests"}
    reply.headers["retry-after"] = str(seconds)


def retry_date(reply: Reply, seconds: int) -> None:
    """429 with Retry-After as a date, so many seconds from now"""
    retry_after(reply, seconds)
    reply.headers["retry-after"] = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def cut(reply: Reply, _: int) -> None:
    """promises the whole body, sends half of it and closes the connection"""
    reply.ending = "cut"


def html(reply: Reply, _: int) -> None:
    """200 with an HTML page"""
    reply.headers["content-type"] = "text/html"
    reply.body = b"<!doctype html><title>Maintenance</title><p>We will be back soon."


def reset(reply: Reply, _: int) -> None:
    """closes the connection without any response"""
    reply.ending = "reset"


def hang(reply: Reply, _: int) -> None:
    """never answers"""
    reply.ending = "hang"


def slow(reply: Reply, _: int) -> None:
    """sends one byte a second"""
    reply.ending = "slow"


def broken_gzip(reply: Reply, _: int) -> None:
    """says that the body is compressed, which it is not"""
    reply.headers["content-encoding"] = "gzip"


def bomb(reply: Reply, megabytes: int) -> None:
    """a small body that unpacks to so many megabytes of blanks"""
    reply.headers["content-encoding"] = "gzip"
    reply.body = gzip.compress(b" " * (1 << 20)) * megabytes


def odd_values(reply: Reply, _: int) -> None:
    """the first rows have NaN, a lone surrogate, a huge id, NUL and SQL, and a megabyte of text"""
    odd = [
        {"a": float("nan")},
        {"a": "\ud800"},
        {"id": 2**64 + 1},
        {"a": "\0'; DROP TABLE users; --"},
        {"a": "x" * 2**20},
    ]
    for row, values in zip(reply.document["data"][reply.resource], odd, strict=False):
        row.update(values)
    reply.body = json.dumps(reply.document).encode()


def no_has_more(reply: Reply, _: int) -> None:
    """leaves has_more out"""
    del reply.document["has_more"]


def has_more_true(reply: Reply, _: int) -> None:
    """has_more is always true"""
    reply.document["has_more"] = True


def has_more_text(reply: Reply, _: int) -> None:
    """has_more is a text, "true" or "false", instead"""
    reply.document["has_more"] = str(reply.document["has_more"]).lower()


def ignore_page(reply: Reply, _: int) -> None:
    """serves page 1, whichever is asked for"""
    reply.document["page"] = 1
    reply.show(0, reply.per_page)


def missing_rows(reply: Reply, _: int) -> None:
    """data is there, the resource in it is not"""
    reply.document["data"] = {}


def null_rows(reply: Reply, _: int) -> None:
    """the resource in data is null"""
    reply.document["data"][reply.resource] = None


def list_body(reply: Reply, _: int) -> None:
    """the body is a JSON list"""
    reply.document = [reply.document]


def null_body(reply: Reply, _: int) -> None:
    """the body is the JSON value null"""
    reply.document = None


def empty(reply: Reply, _: int) -> None:
    """no rows, and no more to come"""
    reply.show(0, 0)
    reply.document["has_more"] = False


def shift(reply: Reply, count: int) -> None:
    """so many rows move on after page 1: its last rows come again, changed, at the start of page 2"""
    if reply.page == 1:
        return
    count, start = min(count, reply.per_page), (reply.page - 1) * reply.per_page
    rows = reply.show(start - count, start - count + reply.per_page)
    if reply.page == 2:
        for row in rows[:count]:
            row.update(CHANGED[reply.resource])


FAULTS: dict[str, Callable[[Reply, int], None]] = {
    change.__name__: change
    for change in (
        *(status, retry_after, retry_date, cut, html, reset, hang, slow, broken_gzip, bomb, odd_values),
        *(
            no_has_more,
            has_more_true,
            has_more_text,
            ignore_page,
            missing_rows,
            null_rows,
            list_body,
            null_body,
            empty,
            shift,
        ),
    )
}
ARGUMENTS = {"status": "CODE", "retry_after": "SECONDS", "retry_date": "SECONDS", "bomb": "MEGABYTES", "shift": "ROWS"}
CHANGED: dict[str, Row] = {
    "awarded_certifications": {"user_name": "Changed Name"},
    "certifications": {"description": "Changed while it was read."},
    "paths_users": {"progress_percentage": 99.5},
    "registrations": {"score": 99.5},
    "trainings": {"name": "Changed name"},
    "users": {"display_name": "Changed Name"},
}
