"""How the service writes a value: the oddities of valid data, each chosen by the row's own numbers.

Mixed spellings of ids and times and gaps in optional fields belong here. What a row means belongs in `stories`, what no
client could read in `faults`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

Row = dict[str, Any]
Draw = Callable[[], float]
T = TypeVar("T")

ZONES = tuple(timezone(timedelta(minutes=minutes)) for minutes in (120, -300, 330, 540))


def pick(draw: Draw, among: Sequence[T]) -> T:
    """One of the values, all equally likely."""
    return among[int(len(among) * draw())]


def spell_id(number: int, draw: Draw) -> int | str:
    """An integer or a text, whichever the row happens to have."""
    return number if draw() < 0.5 else str(number)


def spell_time(seconds: float | None, draw: Draw) -> str | float | None:
    """A moment (seconds since 1970) as epoch milliseconds, whole or fractional, as `... UTC`, or as ISO 8601."""
    if seconds is None:
        return None
    spelling, whole = int(5 * draw()), datetime.fromtimestamp(int(seconds), UTC)
    if spelling < 2:
        return round(seconds * 1000, 4) if spelling else int(seconds * 1000)
    if spelling == 2:
        return whole.astimezone(pick(draw, ZONES)).isoformat()
    return f"{whole:%Y-%m-%dT%H:%M:%SZ}" if spelling == 3 else f"{whole:%Y-%m-%d %H:%M:%S} UTC"


def moment(time: str | float) -> float:
    """What `spell_time` has written, in seconds since 1970."""
    return datetime.fromisoformat(time.replace(" UTC", "Z")).timestamp() if isinstance(time, str) else time / 1000


def leave_gap(row: Row, optional: Sequence[str], draw: Draw) -> None:
    """Every now and then make one of a row's optional fields null, or leave it out."""
    chance = draw()
    if chance < 0.06 and optional:
        field = pick(draw, optional)
        row[field] = None
        if chance < 0.03:
            del row[field]
