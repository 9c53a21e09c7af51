"""What is declared in `tables` is served, also where the sample API has no story for it."""

from collections.abc import Iterator

import pytest
import requests

from analytics_assets.sample_api.data import rows
from analytics_assets_tests.sample_api.conftest import ACADEMY, NOW, get, instant, post, read, started

# What a colleague would write into `resources.py`, and then the server.
DECLARED = """
from dataclasses import replace

from analytics_assets.tables import resources
from analytics_assets.tables.schema import BOOLEAN, COUNT, EMAIL, ID, JSON, NUMBER, TEXT, TIME, Column

resources.RESOURCES["bookings"] = resources._resource(
    "bookings",
    "One row per booking of a room.",
    Column("user_id", ID, "Learner."),
    Column("booked_for_id", ID, "Training, `trainings.id`."),
    Column("booked_at", TIME, "When it was booked."),
    Column("is_paid", BOOLEAN, "Whether it is paid."),
    Column("seats", COUNT, "Seats in the room."),
    Column("price", NUMBER, "Price in euros."),
    Column("contact", EMAIL, "Whom to ask.", personal=True),
    Column("contact_name", TEXT, "Whom to ask.", personal=True),
    Column("room", TEXT, "Name of the room."),
    Column("path", JSON, "The path it belongs to, an object."),
    Column("path_id", ID, "That path.", lifted_from="path"),
)
trainings = resources.RESOURCES["trainings"]
fields = (Column("level", TEXT, "How hard it is."), Column("reviewed_at", TIME, "When it was last reviewed."))
resources.RESOURCES["trainings"] = replace(trainings, columns=(*trainings.columns, *fields))

from analytics_assets.sample_api.__main__ import main
main()
"""
NEW = {"level", "reviewed_at"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of tables that the sample API has no story for."""
    with started("-c", DECLARED, "--seed", "7", "--now", NOW.isoformat(), "--bookings", "250") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def test_a_declared_resource_is_served(url: str) -> None:
    """A resource that was only declared has pages, as many rows as asked for, and values of the declared types."""
    found = read(url, "bookings")
    assert len({str(row["id"]) for row in found}) == len(found) == 250
    assert {name for row in found for name in row} == {
        *("id", "user_id", "booked_for_id", "booked_at", "is_paid", "seats", "price", "contact", "contact_name"),
        *("room", "path"),
    }
    values = {name: [row[name] for row in found if row.get(name) is not None] for name in found[0]}
    types = {name: {type(value) for value in some} for name, some in values.items()}
    assert types["id"] == types["user_id"] == types["booked_for_id"] == {int, str}
    assert types["contact"] == types["contact_name"] == types["room"] == {str}
    assert (types["is_paid"], types["seats"], types["price"], types["path"]) == ({bool}, {int}, {float}, {dict})
    assert types["booked_at"] == {int, float, str}
    for name, referred in (("user_id", "users"), ("booked_for_id", "trainings")):
        assert set(map(str, values[name])) <= {str(row["id"]) for row in rows(ACADEMY, referred)}
    assert all(instant(value) <= NOW for value in values["booked_at"])
    assert all("@" in value for value in values["contact"])
    assert all(path["id"] for path in values["path"])
    assert 200 < min(map(len, values.values())) < 250, "fields may be null or absent"


def test_a_declared_resource_can_be_steered(url: str) -> None:
    """It is counted, grows and breaks as the others do."""
    assert post(url, "faults", {"bookings": "shift:2"}).ok
    found = read(url, "bookings")
    assert post(url, "faults", {"bookings": None}).ok
    assert len(found) == 252
    assert len({str(row["id"]) for row in found}) == 250
    assert all(before != after for before, after in zip(found[98:100], found[100:102], strict=True))
    assert post(url, "rows", {"bookings": 1}).json()["bookings"] == 251
    assert len(get(url, "bookings", 3).json()["data"]["bookings"]) == 51
    assert post(url, "rows", {"bookings": -1}).json()["bookings"] == 250
    assert requests.get(f"{url}/calls", timeout=10).json()["bookings"] > 3


def test_a_declared_field_is_served(url: str) -> None:
    """A field that was only declared is in every row of its resource, and the other fields are as they were."""
    found = read(url, "trainings")
    assert [{name: row[name] for name in row if name not in NEW} for row in found] == rows(ACADEMY, "trainings")
    assert all(isinstance(row["level"], str) and instant(row["reviewed_at"]) <= NOW for row in found)
