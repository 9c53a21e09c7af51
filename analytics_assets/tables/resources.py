"""The six resources of the API as tables. A new field of the API is one line here."""

from collections.abc import Mapping
from dataclasses import replace

from analytics_assets.tables.schema import (
    BOOLEAN,
    CHANGED_AT,
    CHANGED_IN,
    COUNT,
    DELETED_AT,
    EMAIL,
    EXTRA_FIELDS,
    HASH,
    ID,
    JSON,
    NUMBER,
    PAGE,
    TEXT,
    TIME,
    Column,
    Table,
)


def _resource(name: str, description: str, *columns: Column) -> Table:
    """A table of the API: the key, the columns of the resource, and the columns that every sync adds."""
    return Table(
        name,
        description,
        (
            Column("id", ID, "Identifier given by the API.", nullable=False),
            *columns,
            Column(EXTRA_FIELDS, JSON, "Fields of the API that have no column here, as an object.", personal=True),
            Column(CHANGED_AT, TIME, "Start of the sync that last changed the row.", nullable=False),
            Column(
                CHANGED_IN,
                COUNT,
                "Number of that sync in `syncs`; null for a row of an older version that is gone.",
            ),
            Column(DELETED_AT, TIME, "When a second full sync in a row had not seen the row; null if it exists."),
            Column(HASH, COUNT, "Hash of what the API says of the row; only in the warehouse."),
            Column(
                PAGE,
                COUNT,
                "Page on which that sync saw the row, from 1; only in the warehouse.",
                nullable=False,
            ),
        ),
    )


_LEARNER = (
    Column("user_id", ID, "Learner; refers to `users.id`.", tracked=True),
    Column("user_name", TEXT, "Name of that learner.", personal=True),
    Column("user_email", EMAIL, "Address of that learner.", personal=True),
)
_CERTIFICATION = (
    Column("name", TEXT, "Title of the certification."),
    Column("description", TEXT, "What the certification stands for."),
)

RESOURCES: Mapping[str, Table] = {
    table.name: table
    for table in (
        _resource(
            "users",
            "One row per learner account. `user_history` has the past states.",
            Column("email", EMAIL, "Address the learner signs in with.", personal=True),
            Column("segments", JSON, "Audience segments the learner belongs to, as a list.", tracked=True),
            Column("display_name", TEXT, "Name shown to others.", personal=True),
            Column("first_name", TEXT, "Given name.", personal=True),
            Column("last_name", TEXT, "Family name.", personal=True),
            Column("created_at", TIME, "When the account was created."),
            Column(
                "custom_registration_field_values",
                JSON,
                "Answers to the customer's own sign-up questions, as a list of `{name, value}`.",
                personal=True,
            ),
        ),
        _resource(
            "trainings",
            "One row per training that learners register for.",
            Column("type", TEXT, "Kind of training, such as a course or a live event."),
            Column("name", TEXT, "Title of the training."),
            Column("created_at", TIME, "When the training was created."),
        ),
        _resource(
            "registrations",
            "One row per registration of a learner for content. `registration_history` has the past states.",
            Column("completed_at", TIME, "When the learner completed the content.", tracked=True),
            Column("is_completed", BOOLEAN, "Whether the API counts the content as completed.", tracked=True),
            Column("completion_percentage", NUMBER, "Progress through the content, 0 to 100.", tracked=True),
            Column("score", NUMBER, "Score the learner reached.", tracked=True),
            Column("due_at", TIME, "When the content has to be completed.", tracked=True),
            Column("due_date", TIME, "When the content has to be completed, if `due_at` is null.", tracked=True),
            Column(
                "pass_status",
                TEXT,
                "Result of the assessment in the API's words, such as `passed`, `failed` or `pending`; null if "
                "there is none.",
                tracked=True,
            ),
            Column("created_at", TIME, "When the learner was registered."),
            Column("user", JSON, "The learner as the API embeds it, an object.", personal=True),
            Column("user_id", ID, "Learner; refers to `users.id`.", lifted_from="user", tracked=True),
            Column("content", JSON, "The content as the API embeds it, an object.", personal=True),
            Column(
                "content_id",
                ID,
                "Content; refers to `trainings.id` for a training.",
                lifted_from="content",
                tracked=True,
            ),
        ),
        _resource(
            "certifications",
            "One row per certification that can be awarded.",
            *_CERTIFICATION,
            Column("created_at", TIME, "When the certification was created."),
            Column("awarded_by_name", TEXT, "Person who signs the certificate.", personal=True),
            Column("awarded_by_title", TEXT, "Position of the person who signs the certificate."),
        ),
        _resource(
            "awarded_certifications",
            "One row per certification awarded to a learner.",
            *_CERTIFICATION,
            *_LEARNER,
            Column("awarded_at", TIME, "When the certification was awarded."),
        ),
        _resource(
            "paths_users",
            "One row per enrolment in a learning path. `enrolment_history` has the past states.",
            *_LEARNER,
            Column("path_id", ID, "Learning path the learner is enrolled in.", tracked=True),
            Column("path_name", TEXT, "Title of the learning path."),
            Column("path_description", TEXT, "What the learning path is about."),
            Column("progress_percentage", NUMBER, "Progress through the path, 0 to 100.", tracked=True),
            Column("completed_at", TIME, "When the learner completed the path.", tracked=True),
        ),
    )
}


def _history(table: str, name: str, one: str) -> Table:
    """The past states of the rows of a resource, each of which is `one`."""
    key, *others = RESOURCES[table].columns
    return Table(
        name,
        f"One row per state of {one} since the first sync. A state is one set of values of its other columns. "
        f"A deletion ends a state, and {one} that comes back begins one.",
        (
            replace(key, description=f"Refers to `{table}.id`."),
            *(replace(column, lifted_from=None) for column in others if column.tracked),
            Column("valid_from", TIME, "Start of the sync that first saw the state.", nullable=False),
            Column("valid_to", TIME, "Start of the sync that saw that the state has ended; null if it is current."),
            Column("from_sync", COUNT, "Number of the first of these syncs in `syncs`.", nullable=False),
            Column("to_sync", COUNT, "Number of the second; null if the state is current."),
        ),
    )


HISTORIES: Mapping[str, Table] = {  # by resource
    "users": _history("users", "user_history", "an account"),
    "registrations": _history("registrations", "registration_history", "a registration"),
    "paths_users": _history("paths_users", "enrolment_history", "an enrolment"),
}
