"""The sample academy, on which every row depends: its size, its years, its people and what it teaches.

Who took what, and when, belongs in `stories`.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random

from analytics_assets.sample_api.oddities import Draw, Row, pick
from analytics_assets.tables.resources import RESOURCES

SIZES = {
    "awarded_certifications": 700,
    "certifications": 12,
    "paths_users": 900,
    "registrations": 4000,
    "trainings": 60,
    "users": 400,
}
ALL_SIZES = SIZES | {name: 300 for name in RESOURCES if name not in SIZES}
YEARS_OF_HISTORY = {"certifications": 5, "trainings": 5, "users": 5, "paths_users": 3, "registrations": 3}
DAY = 86_400.0
# English names are listed more often: half of the people have one.
LOCALES = ("en_US", "de_DE", "en_US", "fr_FR", "en_GB", "pl_PL", "en_US", "ja_JP")
TOPICS = (
    *("Forklift safety", "Information security basics", "Data protection in practice", "First aid at work"),
    *("Getting to know our products", "Fire safety", "Anti-bribery and corruption", "Handling hazardous materials"),
    *("Code of conduct", "Giving feedback", "Lifting and carrying", "Selling to existing customers"),
    *("Arbeitsschutz für Führungskräfte", "Interviewing and hiring", "Time management", "Sécurité incendie"),
    *("Working at height", "De-escalation on the phone", "Writing for customers", "安全衛生の基礎"),
    *("Inclusive leadership", "Spreadsheet skills", "Project management fundamentals", "Driving in winter"),
)
PATHS = ("New hire onboarding", "Warehouse team lead", "Sales academy", "First 90 days in care", "Führung kompakt")
EDITIONS = ("refresher", "advanced", "for managers", "for contractors", "workshop", "exam preparation")
# The first id and the titles. Only paths and resources are few; trainings may be any number, so their ids come last.
KINDS = {
    "resource": (300, ("Travel policy (PDF)", "Brand guidelines", "Emergency numbers", "Wörterbuch Lagerlogistik")),
    "path": (700, PATHS),
    "training": (20_000, TOPICS),
}
TRAINING_TYPES = ("course", "scorm", "course", "live", "video")


class Academy:
    """All that rows depend on: the seed, the moment histories end at, and how many rows each resource starts with.

    Rows past a resource's size exist too: those that appear while the server runs, made in the last hour before `now`.
    Raises ModuleNotFoundError where the data-faking library is missing.
    """

    def __init__(self, seed: int = 1, now: datetime | None = None, sizes: Mapping[str, int] = ALL_SIZES) -> None:
        """`now` is in UTC if it has no zone, and the start of today if not given: within a day rows stay the same."""
        now = now or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.now = now.replace(tzinfo=now.tzinfo or UTC).timestamp()
        self.seed, self.sizes = seed, {**ALL_SIZES, **sizes}
        self._names = _names(seed)
        self._people: dict[int, Row] = {}

    def draw(self, subject: str, index: int) -> Draw:
        """A stream of numbers in [0, 1) that belongs to this one row or person."""
        return Random(f"{self.seed} {subject} {index}").random

    def created(self, resource: str, index: int, jitter: float) -> tuple[float, float]:
        """How far into its resource's history a row was made (0 to 1), and when, in seconds since 1970."""
        size = self.sizes[resource]
        if index >= size:
            return 1.0, self.now - 3600 * jitter
        part = (index + jitter) / size
        return part, self.now - YEARS_OF_HISTORY.get(resource, 3) * 365 * DAY * (1 - part)

    def earlier(self, resource: str, part: float, share: float) -> int:
        """The index of one of the users or trainings that were there `part` of the way through three of five years."""
        return int(max(self.sizes[resource] * (2 + 3 * part) / 5 - 1, 0) * share)

    def person(self, index: int) -> Row:
        """The person of `users` row `index`, with an integer `id`; one with a negative index has been removed."""
        if index not in self._people:
            draw, number = self.draw("person", index), 10_000 + index
            names = pick(draw, self._names)
            first, last = pick(draw, names)[0], pick(draw, names)[1]
            letters = unicodedata.normalize("NFKD", f"{first}.{last}.{number}").lower()
            mailbox = re.sub("[^a-z0-9.]", "", letters).strip(".").replace("..", ".")
            self._people[index] = {
                "id": number,
                "email": f"{mailbox}@{pick(draw, ('example.org', 'example.com'))}",
                "display_name": f"{first} {last}",
                "first_name": first,
                "last_name": last,
            }
        return self._people[index]


def content(kind: str, index: int) -> Row:
    """The content of this kind (a key of `KINDS`) and index, with an integer `id`; trainings never run out."""
    first_id, titles = KINDS[kind]
    edition, topic = divmod(index, len(titles))
    title = titles[topic]
    if edition:
        turn, which = divmod(edition - 1, len(EDITIONS))
        title += f", {EDITIONS[which]}" + (f" {turn + 1}" if turn else "")
    return {
        "id": first_id + index,
        "title": title,
        "type": TRAINING_TYPES[index % len(TRAINING_TYPES)] if kind == "training" else kind,
        "time_estimate_seconds": 600 * (1 + index * 7 % 11),
    }


def certificate(index: int) -> dict[str, str]:
    """Name and description of a certification: it belongs to the training of the same index."""
    title = content("training", index)["title"]
    return {"name": f"Certificate: {title}", "description": f"Awarded for passing “{title}”."}


def _names(seed: int) -> list[list[tuple[str, str]]]:
    """150 first and last names per locale, to be combined at will: a call of Faker for every row is slow."""
    from faker import Faker  # not needed to know the sizes

    names = []
    for place, locale in enumerate(LOCALES):
        fake = Faker(locale, providers=["faker.providers.person"])
        fake.seed_instance(f"{seed} {place}")
        names.append([(fake.first_name(), fake.last_name()) for _ in range(150)])
    return names
