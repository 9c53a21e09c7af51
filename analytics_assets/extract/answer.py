"""What an answer says: JSON as its bytes give it, down to the rows of a page, each still as text.

What the values of a row mean belongs in `batches`.
"""

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from dlt.common.utils import str2bool

from analytics_assets.extract.faults import ADDRESS, UnexpectedAnswer

Raw = msgspec.Raw
MARK = r"\ufdd0"  # in front of what is no JSON; Unicode leaves this character to programs, for use inside of them
MARKED = re.compile(r'"\\ufdd0(?:[^"\\]|\\.)*"')
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity', re.DOTALL)
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
Fields = dict[str, Raw]


class Seen(NamedTuple):
    """What a page says: what tells its rows apart, and whether there is another page; None where it does not say."""

    ids: list[bytes]
    has_more: bool | None


@lru_cache
def _decoder(resource: str, row: Any) -> msgspec.json.Decoder[Any]:
    """Reads an answer whose rows are such."""
    data = msgspec.defstruct("Data", [("rows", list[row])], rename={"rows": resource})
    return msgspec.json.Decoder(msgspec.defstruct("Answer", [("data", data), ("has_more", Raw, Raw(b"null"))]))


class _Row(msgspec.Struct, gc=False):
    id: Raw


def look(resource: str, body: bytes, where: str) -> Seen:
    """What the page in `body`, an answer that came from `where`, says.

    Raises ValueError or RecursionError where it is no JSON, `UnexpectedAnswer` where it is no page.
    """
    try:
        answer = _decoder(resource, _Row).decode(body)
        ids = [bytes(row.id) for row in answer.data.rows]
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = _answer(resource, body)
        if answer is None or (answer.data.rows and not any(map(_is_object, answer.data.rows))):
            what = f"there is no list of objects at 'data.{resource}' of the answer"
            raise UnexpectedAnswer(f"{where}: {what}; {ADDRESS}, or ask what has changed") from None
        ids = [bytes((fields(row) or {}).get("id", row)) for row in answer.data.rows]
    try:
        more = msgspec.json.decode(answer.has_more)
        return Seen(ids, None if more is None else str2bool(str(more)))
    except ValueError:
        raise UnexpectedAnswer(f"{where}: 'has_more' is neither true nor false") from None


def rows(resource: str, body: bytes) -> list[Raw]:
    """The JSON of each row of a page that `look` has seen; where it was none, what is wrong stands behind `MARK`."""
    answer = _answer(resource, body)
    return list(answer.data.rows) if answer else []


def fields(row: Raw) -> Fields | None:
    """The JSON of each field of a row; None where it is no object."""
    return msgspec.json.decode(row, type=Fields) if _is_object(row) else None


def ascii_text(row: Raw) -> str:
    """The row as the API gave it, in ASCII."""
    text = MARKED.sub(lambda marked: str(json.loads(marked[0]))[1:], bytes(row).decode("utf-8", "surrogateescape"))
    return _in_ascii(text)


def _is_object(row: Raw) -> bool:
    return bytes(row)[:1] == b"{"


def _answer(resource: str, body: bytes) -> Any:
    """The answer with its rows as text; None where it has another shape."""
    decoder = _decoder(resource, Raw)
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return decoder.decode(_repaired(body))
    except msgspec.ValidationError:
        return None


def _repaired(body: bytes) -> bytes:
    """The body with a marked text for each token that JSON does not have: NaN, infinities, texts that are no Unicode.

    These are what servers write all the same, so that one such value does not cost the others. Raises ValueError where
    there is such a byte elsewhere.
    """
    text = body.decode("utf-8", "surrogateescape")
    return TOKEN.sub(
        lambda token: token[0] if _is_sound(token[0]) else json.dumps(json.loads(f'"{MARK}"') + _in_ascii(token[0])),
        text,
    ).encode()


def _is_sound(token: str) -> bool:
    if token[0] != '"':
        return False
    try:
        return (token.isascii() and r"\u" not in token) or bool(json.loads(token).encode()) or True
    except UnicodeEncodeError:
        return False
    except ValueError:
        return True  # an escape that does not exist, which nobody can read


def _in_ascii(text: str) -> str:
    return NOT_ASCII.sub(lambda character: json.dumps(character[0])[1:-1], text)
