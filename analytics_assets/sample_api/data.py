"""The rows of the sample API: people, trainings and histories, each row a pure function of an academy and an index.

Here belongs what happened to whom and when. How a value is written belongs in `oddities`, titles in `content`, answers
that no client can read in `faults`, paging and HTTP in `server`.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from analytics_assets.sample_api.content import PATHS, RESOURCES, Kind, certificate, content
from analytics_assets.sample_api.oddities import Draw, Row, pick, spell_id, spell_time, with_gaps

SIZES = {
    "awarded_certifications": 700,
    "certifications": 12,
    "paths_users": 900,
    "registrations": 4000,
    "trainings": 60,
    "users": 400,
}
YEARS_OF_HISTORY = {"certifications": 5, "paths_users": 3, "registrations": 3, "trainings": 5, "users": 5}
# What a row may lack or have as null. A registration keeps the fields that make its history add up.
OPTIONAL = {
    "awarded_certifications": ("description", "user_name", "user_email"),
    "certifications": ("description", "awarded_by_name", "awarded_by_title", "created_at"),
    "paths_users": ("path_description", "user_email", "user_name"),
    "registrations": ("score", "due_at", "due_date", "pass_status", "user", "content", "enrollment_method"),
    "trainings": ("type", "created_at", "card_banner"),
    "users": ("email", "segments", "display_name", "last_name", "created_at", "custom_registration_field_values"),
}

DAY = 86_400.0
PASS_MARK = 70
REMOVED_USERS = 12
# English names are listed more often: half of the people have one.
LOCALES = ("en_US", "de_DE", "en_US", "fr_FR", "en_GB", "pl_PL", "en_US", "ja_JP")
NAMES_PER_LOCALE = 150
SEGMENTS = ("Warehouse", "Sales", "Customer care", "Zürich", "Leadership", "Contractors")
DEPARTMENTS = ("Logistics", "Finance", "Forschung & Entwicklung", "People", "Engineering")
AWARDING_TITLES = ("Head of Safety", "Chief People Officer", "Learning and Development Lead", "Quality Manager")


class Person(NamedTuple):
    """A learner, listed under `users` or removed."""

    id: int
    first_name: str
    last_name: str
    email: str

    @property
    def name(self) -> str:
        """The name as it is displayed."""
        return f"{self.first_name} {self.last_name}"


class History(NamedTuple):
    """The course of one registration; moments in seconds since 1970, `user` and `taken` are indexes."""

    user: int
    kind: Kind
    taken: int
    created: float
    due: float | None
    completed: float | None
    percentage: float
    score: float | None
    pass_status: str | None


class Academy:
    """All that rows depend on: the seed, the moment histories end at, and how many rows each resource starts with.

    Rows past a resource's size exist too: those that appear while the server runs, made in the last hour before `now`.
    Raises ModuleNotFoundError, which says what to install, where the data-faking library is missing.
    """

    def __init__(self, seed: int = 1, now: datetime | None = None, sizes: Mapping[str, int] = SIZES) -> None:
        """`now` is the start of today (UTC) if not given: within a day the same seed gives the same rows."""
        now = now or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.seed, self.now, self.sizes = seed, now.timestamp(), {**SIZES, **sizes}
        self._names = _names(seed)
        self._people: dict[int, Person] = {}

    def draw(self, subject: str, index: int) -> Draw:
        """A stream of numbers in [0, 1) that belongs to this one row or person."""
        return Random(f"{self.seed} {subject} {index}").random

    def created(self, resource: str, index: int, jitter: float) -> tuple[float, float]:
        """How far into its resource's history a row was made (0 to 1), and when, in seconds since 1970."""
        size = self.sizes[resource]
        if index >= size:
            return 1.0, self.now - 3600 * jitter
        part = (index + jitter) / size
        return part, self.now - YEARS_OF_HISTORY[resource] * 365 * DAY * (1 - part)

    def earlier(self, resource: str, part: float, share: float) -> int:
        """The index of one of the users or trainings that were there `part` of the way through three of five years."""
        return int(max(self.sizes[resource] * (2 + 3 * part) / 5 - 1, 0) * share)

    def person(self, index: int) -> Person:
        """The person of `users` row `index`; negative: one of the removed, who came before the first row."""
        if index not in self._people:
            draw, number = self.draw("person", index), 10_000 + index
            first, last = (pick(draw, names) for names in pick(draw, self._names))
            mailbox = ".".join(filter(None, (_ascii(first), _ascii(last), str(number))))
            self._people[index] = Person(number, first, last, f"{mailbox}@{pick(draw, ('example.org', 'example.com'))}")
        return self._people[index]


def rows(academy: Academy, resource: str, start: int = 0, stop: int | None = None) -> list[Row]:
    """The rows of a resource as its JSON objects, from index `start` to before `stop` (its starting size if None).

    This is the truth that what was read over HTTP is compared with. Raises KeyError for a resource that is none.
    """
    row_of, optional = ROW_OF[resource], OPTIONAL[resource]
    return [
        with_gaps(row_of(academy, index, draw), optional, draw)
        for index in range(start, academy.sizes[resource] if stop is None else stop)
        for draw in (academy.draw(resource, index),)
    ]


def dated(academy: Academy, resource: str, index: int) -> float:
    """The moment by which a window of dates finds a row, in seconds since 1970. KeyError for resources without."""
    return DATED[resource](academy, index, academy.draw(resource, index))


def history(academy: Academy, index: int, draw: Draw) -> History:
    """The course of a registration, told by the first numbers of its row's stream."""
    part, created = academy.created("registrations", index, draw())
    chance, share = draw(), draw()
    kind: Kind = "training" if chance < 0.92 else "path" if chance < 0.97 else "resource"
    # A high power makes the first trainings far bigger than the last.
    taken = (
        academy.earlier("trainings", part, share**2.5)
        if kind == "training"
        else int(len(PATHS if kind == "path" else RESOURCES) * share)
    )
    user = academy.earlier("users", part, draw() ** 1.5)
    if draw() < 0.03:
        user = -1 - user % REMOVED_USERS
    due = created + DAY * int(14 + 46 * draw()) if draw() < 0.85 else None
    outcome, ended, work = draw(), created + 600 + DAY * 50 * draw() ** 2, draw()
    graded = kind == "training" and taken % 4 != 3
    if outcome > 0.35 and ended <= academy.now:
        score = round(100 - 60 * work**2, 1) if graded else None
        status = None if score is None else "passed" if score >= PASS_MARK else "failed"
        return History(user, kind, taken, created, due, ended, 100, score, status)
    percentage = 0 if outcome < 0.15 else round(1 + 98 * work, 1) if work < 0.5 else int(99 * work)
    return History(user, kind, taken, created, due, None, percentage, None, "pending" if graded else None)


def _registration(academy: Academy, index: int, draw: Draw) -> Row:
    past = history(academy, index, draw)
    person, taken = academy.person(past.user), content(past.kind, past.taken)
    user = {"id": spell_id(person.id, draw), "display_name": person.name, "email": person.email}
    subject = {
        "id": spell_id(taken.id, draw),
        "title": taken.title,
        "type": taken.type,
        "time_estimate_seconds": taken.seconds,
    }
    return {
        "id": spell_id(500_000 + index, draw),
        "completed_at": spell_time(past.completed, draw),
        "is_completed": past.completed is not None,
        "completion_percentage": past.percentage,
        "score": past.score,
        "due_at": spell_time(past.due, draw),
        "due_date": spell_time(past.due, draw),
        "pass_status": past.pass_status,
        "created_at": spell_time(past.created, draw),
        "user": {"user": user} if draw() < 0.5 else user,
        "content": {"content": subject} if draw() < 0.5 else subject,
        "enrollment_method": pick(draw, ("assigned", "self_enrolled", "automation")),
        "grading_status": "not_graded" if past.score is None else "graded",
    }


def _awarded_certification(academy: Academy, index: int, draw: Draw) -> Row:
    past = _passed(academy, index)
    person, (name, description) = academy.person(past.user), certificate(past.taken)
    awarded = _awarded(academy, index, past, draw)
    return {
        "id": spell_id(800_000 + index, draw),
        "name": name,
        "description": description,
        "user_id": spell_id(person.id, draw),
        "user_name": person.name,
        "user_email": person.email,
        "awarded_at": spell_time(awarded, draw),
        "certificate_url": f"https://academy.example.org/certificates/{index}",
    }


def _awarded(academy: Academy, index: int, past: History, draw: Draw) -> float:
    """When an award was given: after the course, or if it appears while the server runs, in the last hour."""
    after = draw()
    if index >= academy.sizes["awarded_certifications"]:
        return academy.now - 3600 * after
    return min((past.completed or past.created) + 1 + 3 * DAY * after, academy.now)


def _passed(academy: Academy, award: int) -> History:
    """The registration an award was given for: the first that was passed from the award's place in the history on."""
    registrations, awards = academy.sizes["registrations"], max(academy.sizes["awarded_certifications"], 1)
    first = award % awards * registrations // awards
    for index in (at % registrations for at in range(first, first + min(registrations, 200))):
        past = history(academy, index, academy.draw("registrations", index))
        if past.pass_status == "passed" and past.taken < academy.sizes["certifications"]:
            return past
    return history(academy, first, academy.draw("registrations", first))


def _path_user(academy: Academy, index: int, draw: Draw) -> Row:
    part, created = academy.created("paths_users", index, draw())
    person, path = academy.person(academy.earlier("users", part, draw())), content("path", int(len(PATHS) * draw()))
    ended, outcome = created + DAY * (1 + 90 * draw()), draw()
    completed = ended if outcome > 0.4 and ended <= academy.now else None
    row = {
        "id": spell_id(600_000 + index, draw),
        "user_id": spell_id(person.id, draw),
        "user_name": person.name,
        "user_email": person.email,
        "path_id": spell_id(path.id, draw),
        "path_name": path.title,
        "path_description": f"The way through “{path.title}”, step by step.",
        "progress_percentage": 100 if completed else round(99 * draw(), 1) if outcome > 0.1 else 0,
        "completed_at": spell_time(completed, draw),
    }
    # The general contract promises no more than the id here.
    return {"id": row["id"]} if draw() < 0.03 else row


def _user(academy: Academy, index: int, draw: Draw) -> Row:
    person = academy.person(index)
    fields = [
        {"name": "Department", "value": pick(draw, DEPARTMENTS)},
        {"name": "Employee number", "value": f"E{person.id:06}"},
    ]
    return {
        "id": spell_id(person.id, draw),
        "email": person.email,
        "segments": sorted({pick(draw, SEGMENTS) for _ in range(int(4 * draw()))}),
        "display_name": person.name,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "created_at": spell_time(academy.created("users", index, draw())[1], draw),
        "custom_registration_field_values": fields[: int(3 * draw())],
        "time_zone": pick(draw, ("Europe/Berlin", "America/New_York", "Asia/Tokyo")),
    }


def _training(academy: Academy, index: int, draw: Draw) -> Row:
    taught = content("training", index)
    return {
        "id": spell_id(taught.id, draw),
        "type": taught.type,
        "name": taught.title,
        "created_at": spell_time(academy.created("trainings", index, draw())[1], draw),
        "card_banner": f"https://cdn.example.org/banners/{index}.png",
        "time_estimate_seconds": taught.seconds,
    }


def _certification(academy: Academy, index: int, draw: Draw) -> Row:
    name, description = certificate(index)
    return {
        "id": spell_id(3_000 + index, draw),
        "name": name,
        "description": description,
        "created_at": spell_time(academy.created("certifications", index, draw())[1], draw),
        "awarded_by_name": academy.person(index % 7).name,
        "awarded_by_title": pick(draw, AWARDING_TITLES),
        "card_banner": None,
    }


ROW_OF: dict[str, Callable[[Academy, int, Draw], Row]] = {
    "awarded_certifications": _awarded_certification,
    "certifications": _certification,
    "paths_users": _path_user,
    "registrations": _registration,
    "trainings": _training,
    "users": _user,
}
DATED: dict[str, Callable[[Academy, int, Draw], float]] = {
    "awarded_certifications": lambda academy, index, draw: _awarded(academy, index, _passed(academy, index), draw),
    "registrations": lambda academy, index, draw: history(academy, index, draw).created,
}


def _ascii(name: str) -> str:
    return re.sub("[^a-z]", "", unicodedata.normalize("NFKD", name).lower())


def _names(seed: int) -> list[tuple[list[str], list[str]]]:
    """First and last names for each locale, to be combined at will: a call of Faker for every row is slow."""
    try:
        from faker import Faker
    except ModuleNotFoundError as missing:
        line = "pip install 'analytics-assets[sample]'"
        raise ModuleNotFoundError(f"the sample API needs the package faker: {line}", name="faker") from missing
    names = []
    for place, locale in enumerate(LOCALES):
        fake = Faker(locale, providers=["faker.providers.person"])
        fake.seed_instance(f"{seed} {place}")
        first, last = zip(*((fake.first_name(), fake.last_name()) for _ in range(NAMES_PER_LOCALE)), strict=True)
        names.append((list(first), list(last)))
    return names
