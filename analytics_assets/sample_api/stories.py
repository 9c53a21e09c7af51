"""What happened to whom and when: how a row of each of the six resources follows from an academy and an index.

How a value is written belongs in `oddities`, a row that has no story in `data`.
"""

from collections.abc import Callable

from analytics_assets.sample_api.academy import DAY, KINDS, PATHS, Academy, certificate, content
from analytics_assets.sample_api.oddities import Draw, Row, pick, spell_id, spell_time

PASS_MARK = 70
REMOVED_USERS = 12
SEGMENTS = ("Warehouse", "Sales", "Customer care", "Zürich", "Leadership", "Contractors")
DEPARTMENTS = ("Logistics", "Finance", "Forschung & Entwicklung", "People", "Engineering")
AWARDING_TITLES = ("Head of Safety", "Chief People Officer", "Learning and Development Lead", "Quality Manager")


def history(academy: Academy, index: int, draw: Draw) -> tuple[int, str, int, Row]:
    """The course of a registration, told by the first numbers of its row's stream.

    The index of its user; kind and index of its content; and its fields, with times in seconds since 1970.
    """
    part, created = academy.created("registrations", index, draw())
    chance, share = draw(), draw()
    kind = "training" if chance < 0.92 else "path" if chance < 0.97 else "resource"
    early = academy.earlier("trainings", part, share**2.5)  # so the first are far bigger than the last
    taken = early if kind == "training" else int(len(KINDS[kind][1]) * share)
    user = academy.earlier("users", part, draw() ** 1.5)
    if draw() < 0.03:
        user = -1 - user % REMOVED_USERS
    due = created + DAY * int(14 + 46 * draw()) if draw() < 0.85 else None
    outcome, ended, work = draw(), created + 600 + DAY * 50 * draw() ** 2, draw()
    graded, done = kind == "training" and taken % 4 != 3, outcome > 0.35 and ended <= academy.now
    score = round(100 - 60 * work**2, 1)
    status = "pending" if not done else "passed" if score >= PASS_MARK else "failed"
    progress = 100 if done else 0 if outcome < 0.15 else round(1 + 98 * work, 1) if work < 0.5 else int(99 * work)
    fields = {
        "completed_at": ended if done else None,
        "is_completed": done,
        "completion_percentage": progress,
        "score": score if done and graded else None,
        "due_at": due,
        "due_date": due,
        "pass_status": status if graded else None,
        "created_at": created,
    }
    return user, kind, taken, fields


def _registration(academy: Academy, index: int, draw: Draw) -> Row:
    who, kind, what, fields = history(academy, index, draw)
    person, taken = academy.person(who), content(kind, what)
    user = {"id": spell_id(person["id"], draw), **{name: person[name] for name in ("display_name", "email")}}
    subject = {**taken, "id": spell_id(taken["id"], draw)}
    return {
        "id": spell_id(500_000 + index, draw),
        **fields,
        **{name: spell_time(fields[name], draw) for name in ("completed_at", "due_at", "due_date", "created_at")},
        "user": {"user": user} if draw() < 0.5 else user,
        "content": {"content": subject} if draw() < 0.5 else subject,
        "enrollment_method": pick(draw, ("assigned", "self_enrolled", "automation")),
        "grading_status": "not_graded" if fields["score"] is None else "graded",
    }


def _awarded_certification(academy: Academy, index: int, draw: Draw) -> Row:
    (user, _, taken, past), after = _passed(academy, index), draw()
    awarded = min((past["completed_at"] or past["created_at"]) + 1 + 3 * DAY * after, academy.now)
    if index >= academy.sizes["awarded_certifications"]:
        awarded = academy.now - 3600 * after
    return {
        "id": spell_id(800_000 + index, draw),
        **certificate(taken),
        **_learner(academy.person(user), draw),
        "awarded_at": spell_time(awarded, draw),
        "certificate_url": f"https://academy.example.org/certificates/{index}",
    }


def _passed(academy: Academy, award: int) -> tuple[int, str, int, Row]:
    """The registration an award was given for: the first that was passed from the award's place in the history on."""
    registrations, awards = (max(academy.sizes[name], 1) for name in ("registrations", "awarded_certifications"))
    first = award % awards * registrations // awards
    for index in (*range(first, first + 200), first):
        at = index % registrations
        user, kind, taken, fields = history(academy, at, academy.draw("registrations", at))
        if fields["pass_status"] == "passed" and taken < academy.sizes["certifications"]:
            break
    return user, kind, taken, fields


def _path_user(academy: Academy, index: int, draw: Draw) -> Row:
    part, created = academy.created("paths_users", index, draw())
    person = academy.person(academy.earlier("users", part, draw()))
    path = content("path", int(len(PATHS) * draw()))
    ended, outcome = created + DAY * (1 + 90 * draw()), draw()
    completed = ended if outcome > 0.4 and ended <= academy.now else None
    return {
        "id": spell_id(600_000 + index, draw),
        **_learner(person, draw),
        "path_id": spell_id(path["id"], draw),
        "path_name": path["title"],
        "path_description": f"The way through “{path['title']}”, step by step.",
        "progress_percentage": 100 if completed else round(99 * draw(), 1) if outcome > 0.1 else 0,
        "completed_at": spell_time(completed, draw),
    }


def _learner(person: Row, draw: Draw) -> Row:
    return {"user_id": spell_id(person["id"], draw), "user_name": person["display_name"], "user_email": person["email"]}


def _user(academy: Academy, index: int, draw: Draw) -> Row:
    person = academy.person(index)
    department = {"name": "Department", "value": pick(draw, DEPARTMENTS)}
    fields = [department, {"name": "Employee number", "value": f"E{person['id']:06}"}]
    return {
        **person,
        "id": spell_id(person["id"], draw),
        "segments": sorted({pick(draw, SEGMENTS) for _ in range(int(4 * draw()))}),
        "created_at": spell_time(academy.created("users", index, draw())[1], draw),
        "custom_registration_field_values": fields[: int(3 * draw())],
        "time_zone": pick(draw, ("Europe/Berlin", "America/New_York", "Asia/Tokyo")),
    }


def _training(academy: Academy, index: int, draw: Draw) -> Row:
    taught = content("training", index)
    return {
        "id": spell_id(taught["id"], draw),
        "type": taught["type"],
        "name": taught["title"],
        "created_at": spell_time(academy.created("trainings", index, draw())[1], draw),
        "card_banner": f"https://cdn.example.org/banners/{index}.png",
        "time_estimate_seconds": taught["time_estimate_seconds"],
    }


def _certification(academy: Academy, index: int, draw: Draw) -> Row:
    return {
        "id": spell_id(3_000 + index, draw),
        **certificate(index),
        "created_at": spell_time(academy.created("certifications", index, draw())[1], draw),
        "awarded_by_name": academy.person(index % 7)["display_name"],
        "awarded_by_title": pick(draw, AWARDING_TITLES),
        "card_banner": None,
    }


# How a row is told, and which fields it may lack or have as null: none that make a history add up.
STORIES: dict[str, tuple[Callable[[Academy, int, Draw], Row], str]] = {
    "awarded_certifications": (_awarded_certification, "description user_name user_email"),
    "certifications": (_certification, "description awarded_by_name awarded_by_title created_at"),
    "paths_users": (_path_user, "path_description user_email user_name"),
    "registrations": (_registration, "score due_at due_date pass_status user content enrollment_method"),
    "trainings": (_training, "type created_at card_banner"),
    "users": (_user, "email segments display_name last_name created_at custom_registration_field_values"),
}
UNTOLD = (lambda _, index, draw: {"id": spell_id(1 + index, draw)}, "")  # of a resource that is only declared
