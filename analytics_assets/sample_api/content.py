"""What the sample academy teaches: trainings, paths and resources by index, and the certificates for trainings.

Here belong titles and descriptions. Who took what, and when, belongs in `data`.
"""

from typing import Literal, NamedTuple

Kind = Literal["training", "path", "resource"]

TOPICS = (
    *("Forklift safety", "Information security basics", "Data protection in practice", "First aid at work"),
    *("Getting to know our products", "Fire safety", "Anti-bribery and corruption", "Handling hazardous materials"),
    *("Code of conduct", "Giving feedback", "Lifting and carrying", "Selling to existing customers"),
    *("Arbeitsschutz für Führungskräfte", "Interviewing and hiring", "Time management", "Sécurité incendie"),
    *("Working at height", "De-escalation on the phone", "Writing for customers", "安全衛生の基礎"),
    *("Inclusive leadership", "Spreadsheet skills", "Project management fundamentals", "Driving in winter"),
)
EDITIONS = ("refresher", "advanced", "for managers", "for contractors", "workshop", "exam preparation")
PATHS = ("New hire onboarding", "Warehouse team lead", "Sales academy", "First 90 days in care", "Führung kompakt")
RESOURCES = ("Travel policy (PDF)", "Brand guidelines", "Emergency numbers", "Wörterbuch Lagerlogistik")
TRAINING_TYPES = ("course", "scorm", "course", "live", "video")

# Only paths and resources are few; trainings may be any number, so their ids come last.
FIRST_ID: dict[Kind, int] = {"resource": 300, "path": 700, "training": 20_000}


class Content(NamedTuple):
    """Something to register for; `id` is its number among all contents, `seconds` the time it is said to take."""

    id: int
    title: str
    type: str
    seconds: int


def content(kind: Kind, index: int) -> Content:
    """The content of this kind and index; there are as many trainings as one likes."""
    number, seconds = FIRST_ID[kind] + index, 600 * (1 + index * 7 % 11)
    if kind != "training":
        return Content(number, (PATHS if kind == "path" else RESOURCES)[index], kind, seconds)
    title, edition = TOPICS[index % len(TOPICS)], index // len(TOPICS)
    if edition:
        turn, which = divmod(edition - 1, len(EDITIONS))
        title += f", {EDITIONS[which]}" + (f" {turn + 1}" if turn else "")
    return Content(number, title, TRAINING_TYPES[index % len(TRAINING_TYPES)], seconds)


def certificate(index: int) -> tuple[str, str]:
    """Name and description of a certification: it belongs to the training of the same index."""
    title = content("training", index).title
    return f"Certificate: {title}", f"Awarded for passing “{title}”."
