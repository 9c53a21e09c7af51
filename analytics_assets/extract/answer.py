"""Parses an answer's JSON down to the rows of a page, and leaves each row as JSON text.

`batches` reads the values of a row.
"""

import json
import re
from functools import lru_cache
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
from dlt.common.utils import str2bool

from analytics_assets.extract.faults import ADDRESS, UnexpectedAnswer

Raw = msgspec.Raw
# Prefix of the text that replaces invalid JSON. It is not Unicode, so no value is read from it; it is random, so no
# server can send it.
MARK = b"\xff".decode("utf-8", "surrogateescape") + token_hex(4)
TEXT = r'(?:[^"\\]++|\\.)*+'  # possessive, so that an unterminated text takes no longer
MARKED = re.compile(rf'"{MARK}{TEXT}"')
TOKEN = re.compile(rf'"{TEXT}(?:"|\\?\Z)|NaN|-?Infinity|[\[\]{{}}]', re.DOTALL)
SPACED = re.compile(rf'\s|[\[{{]\s|\{{"{TEXT}"(?:\s|:\s)'.encode())  # JSON with whitespace between its tokens
NULL = Raw(b"null")
DEEPEST = 250  # levels of nesting in a repaired body
ODD_TEXT = re.compile(r"[\x00-\x1f\\]")  # may hold an invalid escape or a lone surrogate
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
Fields = dict[str, Raw]


class Seen(NamedTuple):
    """The ids of a page's rows (of a row without an id, the row itself), and `has_more`, None if it is missing."""

    ids: list[bytes]
    has_more: bool | None


@lru_cache
def decoder_of(resource: str, row: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of answers with rows of this type."""
    data = msgspec.defstruct("Data", [("rows", list[row])], rename={"rows": resource})
    return msgspec.json.Decoder(msgspec.defstruct("Answer", [("data", data), ("has_more", Raw, NULL)]))


class _Row(msgspec.Struct, gc=False):
    id: Raw = NULL


def look(resource: str, body: bytes, where: str) -> Seen:
    """The ids and `has_more` of the page in `body`; `where` names its origin in messages.

    Raises ValueError or RecursionError if the body is not JSON, `UnexpectedAnswer` if it is not a page.
    """
    try:
        answer = decoder_of(resource, _Row).decode(body)
        ids = [bytes(row.id) for row in answer.data.rows]
        if bytes(NULL) in ids:
            raise msgspec.ValidationError("a row has no id")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _answer(resource, body)
        if answer is None:
            _check(body)
        if answer is None or (answer.data.rows and not any(map(_is_object, answer.data.rows))):
            what = f"there is no list of objects at 'data.{resource}' of the answer"
            raise UnexpectedAnswer(f"{where}: {what}; {ADDRESS}, or ask what has changed") from None
        known = [fields(row)[0].get("id", NULL) for row in answer.data.rows]
        ids = [bytes(row if key == NULL else key) for key, row in zip(known, answer.data.rows, strict=True)]
    try:
        more = msgspec.json.decode(answer.has_more)
        return Seen(ids, None if more is None else str2bool(str(more)))
    except ValueError:
        raise UnexpectedAnswer(f"{where}: 'has_more' is neither true nor false") from None


def rows(resource: str, body: bytes) -> list[Raw]:
    """The JSON of each row of a page that `look` has accepted; invalid JSON in it has the prefix `MARK`."""
    answer = _answer(resource, body)
    return list(answer.data.rows) if answer else []


def fields(row: Raw) -> tuple[Fields, str]:
    """The JSON of each field of a row, and "". If the row cannot be read: its id if it has one, and the reason."""
    if not _is_object(row):
        return {}, "it is not an object"
    try:
        return msgspec.json.decode(row, type=Fields), ""
    except UnicodeDecodeError:
        return {"id": msgspec.json.decode(row, type=_Row).id}, "the name of a field is not text"


def ascii_text(row: Raw) -> str:
    """The row as the API sent it, in ASCII; invalid JSON in it becomes a text."""

    def original(found: re.Match[str]) -> str:
        token = str(json.loads(found[0])).removeprefix(MARK)
        return token if token[0] in '"[{' else json.dumps(token)

    text = MARKED.sub(original, as_text(bytes(row)))
    return NOT_ASCII.sub(lambda character: json.dumps(character[0])[1:-1], text)


def as_text(json_bytes: bytes) -> str:
    """The same JSON; each byte that is not UTF-8 becomes a lone surrogate, which is encoded as that byte again."""
    return json_bytes.decode("utf-8", "surrogateescape")


def compact(body: bytes) -> bytes:
    """The body without whitespace between tokens, if it starts with such; tokens keep their spelling."""
    return msgspec.json.format(body, indent=-1) if SPACED.match(body) else body


def _is_object(row: Raw) -> bool:
    return bytes(row)[:1] == b"{"


def _answer(resource: str, body: bytes) -> Any:
    """The answer with its rows as text; None if it has another shape."""
    decoder = decoder_of(resource, Raw)
    try:
        try:
            return decoder.decode(compact(body))
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, RecursionError):
            return decoder.decode(compact(_repaired(body)))
    except msgspec.ValidationError:
        return None


def _check(body: bytes) -> None:
    """Raise ValueError or RecursionError if the body is not JSON; a decoder stops at the first wrong shape."""
    try:
        msgspec.json.decode(body, type=Raw)
    except msgspec.DecodeError:
        msgspec.json.decode(_repaired(body), type=Raw)


def _repaired(body: bytes) -> bytes:
    """The body with a marked text in place of each invalid token, and of values that are nested too deeply.

    Servers do send NaN, infinities, lone surrogates, line breaks in texts and unknown escapes; one costs only its row.
    """
    text = as_text(body)
    parts, done, depth, deep_start = [], 0, 0, 0
    for token in TOKEN.finditer(text):
        start, found = token.start(), token[0]
        depth += found in "[{"
        if found in "[{" and depth == DEEPEST:
            deep_start = start
        ends_deep = found in "]}" and depth == DEEPEST
        depth -= found in "]}"
        if ends_deep or (depth < DEEPEST and found not in "[]{}" and _is_odd(found)):
            start = deep_start if ends_deep else start
            parts += [text[done:start], f'"{MARK}{json.dumps(text[start : token.end()], ensure_ascii=False)[1:]}']
            done = token.end()
    return "".join([*parts, text[done:]]).encode("utf-8", "surrogateescape")


def _is_odd(token: str) -> bool:
    """Whether the token is invalid JSON. A text that is cut off is left alone: the body ends there."""
    if token[0] != '"':
        return True
    try:
        return token[-1:] == '"' and bool(ODD_TEXT.search(token)) and not json.loads(token).encode()
    except ValueError:
        return True
