"""The faults a resource can be asked for, the one grammar they are written in, and what each makes of a page.

All that departs from the contract belongs here. Oddities of valid data belong in `oddities`.
"""

import asyncio
import gzip
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from starlette.responses import Response, StreamingResponse

from analytics_assets.sample_api.data import document as make_document

# What a fault does, by the form in which it is asked for. Those of SHAPES only make another document of a page's.
SHAPES: dict[str, tuple[str, Callable[[dict[str, Any], str], Any]]] = {
    "no_has_more": ("leaves has_more out", lambda page, _: {key: page[key] for key in page if key != "has_more"}),
    "has_more_true": ("has_more is always true", lambda page, _: page | {"has_more": True}),
    "has_more_text": ("has_more is a JSON string", lambda page, _: page | {"has_more": str(page["has_more"]).lower()}),
    "missing_rows": ("data is there, the resource in it is not", lambda page, _: page | {"data": {}}),
    "null_rows": ("the resource in data is null", lambda page, name: page | {"data": {name: None}}),
    "list_body": ("the body is a JSON list", lambda page, _: [page]),
    "null_body": ("the body is the JSON value null", lambda _, __: None),
    "empty": ("no rows, and no more to come", lambda page, name: page | {"data": {name: []}, "has_more": False}),
}
FAULTS = {
    "status:CODE": "answers with this error status (400 to 599) and a JSON error",
    "retry_after:SECONDS": "429 with Retry-After in seconds",
    "retry_date:SECONDS": "429 with Retry-After as a date, so many seconds from now",
    "cut": "promises the whole body, sends half of it and closes the connection",
    "html": "200 with an HTML page",
    "reset": "closes the connection without any response",
    "hang": "never answers",
    "slow": "sends one byte a second",
    "broken_gzip": "says that the body is compressed, which it is not",
    "bomb:MEGABYTES": "a small body that unpacks to so many megabytes of blanks",
    "odd_values": "the first rows have NaN, a lone surrogate, a huge id, NUL and SQL, and a megabyte of text",
    "ignore_page": "serves page 1, whichever is asked for",
    "shift:ROWS": "so many rows move on after page 1: its last rows come again, changed, at the start of page 2",
    **{name: what for name, (what, _) in SHAPES.items()},
}
HELP = [
    "faults: FAULT[:ARGUMENT][@PAGE][*TIMES], several separated by commas, as in users=status:503@2*3",
    *(f"{form:<20} {what}" for form, what in FAULTS.items()),
]
FORMS = "|".join(re.sub(":[A-Z]+", r":\\d{1,9}", form.replace(":CODE", r":[45]\d\d")) for form in FAULTS)
PATTERN = re.compile(rf"({FORMS})(?:@(\d{{1,9}}))?(?:\*(\d{{1,9}}))?")
ODD = [{"a": float("nan")}, {"a": "\ud800"}, {"id": 2**64 + 1}, {"a": "\0'; DROP TABLE users; --"}, {"a": "x" * 2**20}]


@dataclass
class Fault:
    """A fault as it was asked for: on one page or on all (0), `times` more times or for ever (infinity)."""

    name: str
    argument: int
    page: int
    times: float

    def strikes(self, page: int) -> bool:
        """Whether this request is hit; counts down the times."""
        hit = self.page in (0, page) and self.times > 0
        self.times -= hit
        return hit

    async def answer(self, page: dict[str, Any]) -> Response:
        """The response that the fault makes of a page, given as the arguments of `data.document`."""
        name, argument, resource = self.name, self.argument, page["resource"]
        number = 1 if name == "ignore_page" else page["number"]
        document: Any = make_document(**page | {"number": number, "moved": argument if name == "shift" else 0})
        status, headers, body, rows = 200, {"content-type": "application/json"}, b"", document["data"][resource]
        match name:
            case "status":
                status, document = argument, {"error": f"fault: status {argument}"}
            case "retry_after" | "retry_date":
                status, document = 429, {"type": "rate_limited", "message": "fault: too many requests"}
                date = formatdate(time.time() + argument, usegmt=True)
                headers["retry-after"] = date if name == "retry_date" else str(argument)
            case "html":
                headers["content-type"] = "text/html"
                body = b"<!doctype html><title>Maintenance</title><p>We will be back soon."
            case "hang":
                await asyncio.Event().wait()
            case "reset":
                # uvicorn refuses to write a header that HTTP does not allow, and closes the connection instead.
                headers["x"] = "\0"
            case "broken_gzip" | "bomb":
                headers["content-encoding"] = "gzip"
                body = gzip.compress(b" " * (1 << 20)) * argument  # nothing for broken_gzip: its body stays
            case "odd_values":
                for row, values in zip(rows, ODD, strict=False):
                    row.update(values)
            case "shift" if document["page"] == 2:
                again = rows[:argument]  # each gets the other values of the row before
                for row, other in zip(again, [dict(row) for row in rows[-1:] + again], strict=False):
                    row.update({**other, "id": row["id"]})
            case _ if name in SHAPES:
                document = SHAPES[name][1](document, resource)
        body = body or json.dumps(document).encode()
        headers["content-length"] = str(len(body))
        if name == "slow":
            return StreamingResponse(_trickle(body), status, headers)
        # With less sent than was promised uvicorn closes the connection.
        return Response(body[: len(body) // 2] if name == "cut" else body, status, headers)


def parse_faults(text: str) -> list[Fault]:
    """The faults written in `text`. Raises ValueError, with all valid ones, for what is no fault."""
    faults = []
    for part in map(str.strip, text.split(",")):
        match = PATTERN.fullmatch(part)
        if not match:
            raise ValueError("\n".join([f"{part!r} is no fault", *HELP]))
        form, page, times = match.groups()
        name, _, argument = form.partition(":")
        faults.append(Fault(name, int(argument or 0), int(page or 0), float(times or "inf")))
    return faults


async def _trickle(body: bytes) -> AsyncIterator[bytes]:
    for byte in body:
        await asyncio.sleep(1)
        yield bytes([byte])
