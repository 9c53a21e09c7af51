"""From the bytes of an answer to what they say, and how many of them there may be.

What an answer means belongs in `paging`, when it is asked for again in `client`.
"""

import json
import math
from typing import Any

import orjson
import requests
import urllib3

MOST_BYTES = 16 << 20  # as sent and unpacked; a page of 100 rows has some 50 kB
MOST_OBJECTS = 100_000  # objects and lists in an answer, of which each takes many times the memory of its text
CHUNK_BYTES = 1 << 16


class AnswerTooLarge(requests.RequestException):
    """The answer is larger than any page of rows."""


class JsonResponse(requests.Response):
    """A response whose body has been read and decoded once, as `body`; `content` are its bytes.

    What else requests would make for each, such as a jar for cookies, takes longer than many an answer.
    """

    history, raw, reason = [], None, ""
    content = b""
    _content_consumed = True

    def __init__(self, url: str, status_code: int, headers: Any, body: Any = None) -> None:
        self.url, self.status_code, self.headers, self.body = url, status_code, headers, body

    def json(self, **_: Any) -> Any:
        return self.body


class NotANumber:
    """Stands for NaN or an infinity, which JSON does not have; no column can read it, so that its row is set aside."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def content(answer: urllib3.BaseHTTPResponse) -> bytes:
    """The unpacked body of an answer that is still to be read.

    Raises `AnswerTooLarge`, or one of urllib3's errors for a body that is cut short or cannot be unpacked.
    """
    chunks, size = [], 0
    for chunk in answer.stream(CHUNK_BYTES, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if max(size, answer.tell()) > MOST_BYTES:
            answer.close()
            raise AnswerTooLarge(f"its body is larger than {MOST_BYTES >> 20} MB")
    body = b"".join(chunks)
    if size > MOST_OBJECTS and body.count(b"{") + body.count(b"[") > MOST_OBJECTS:
        raise AnswerTooLarge(f"its body holds more than {MOST_OBJECTS:,} objects and lists")
    return body


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
