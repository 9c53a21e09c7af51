"""From the bytes of an answer to what they say, and how many of them there may be.

What an answer means belongs in `paging`, when it is asked for again in `client`.
"""

import json
import math
from typing import Any

import orjson
import requests

MOST_BYTES = 16 << 20  # as sent and unpacked; a page of 100 rows has some 50 kB
MOST_OBJECTS = 100_000  # objects and lists in an answer, of which each takes many times the memory of its text
CHUNK_BYTES = 1 << 16


class AnswerTooLarge(requests.RequestException):
    """The answer is larger than any page of rows."""


class JsonResponse(requests.Response):
    """A response whose body has been read and decoded once."""

    body: Any
    content = b""

    @classmethod
    def of(cls, response: requests.Response, body: Any) -> "JsonResponse":
        """`response` with this body instead of its own, and no bytes."""
        decoded = cls()
        decoded.__dict__.update(response.__dict__)
        decoded.body, decoded.content = body, b""
        return decoded

    def json(self, **_: Any) -> Any:
        return self.body


class NotANumber:
    """Stands for NaN or an infinity, which JSON does not have; no column can read it, so that its row is set aside."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def content(response: requests.Response) -> bytes:
    """The unpacked body of a response that is still to be read.

    Raises `AnswerTooLarge`, or one of requests' errors for a body that is cut short or cannot be unpacked.
    """
    body = bytearray()
    for chunk in response.iter_content(CHUNK_BYTES):
        body += chunk
        if max(len(body), response.raw.tell()) > MOST_BYTES:
            response.close()
            raise AnswerTooLarge(f"its body is larger than {MOST_BYTES >> 20} MB")
    if body.count(b"{") + body.count(b"[") > MOST_OBJECTS:
        raise AnswerTooLarge(f"its body holds more than {MOST_OBJECTS:,} objects and lists")
    return bytes(body)


def decoded(content: bytes) -> Any:
    """What a body of JSON says; single values may be NaN, numbers beyond a double, or bytes that are no UTF-8.

    Raises ValueError where it is no JSON, and RecursionError where it is nested too deeply to tell.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass  # the slower way takes more

    def number(text: str) -> float | NotANumber:
        return value if math.isfinite(value := float(text)) else NotANumber(text)

    text = content.decode("utf-8", "surrogateescape")
    return json.loads(text, parse_constant=NotANumber, parse_float=number)
