"""The six resources of the API as tables. A new field of the API is one line here."""

from collections.abc import Mapping

from analytics_assets.tables.schema import (
    BOOLEAN,
    COUNT,
    DELETED_AT,
    EMAIL,
    EXTRA_FIELDS,
    ID,
    JSON,
    LAST_SEEN_AT,
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
            Column(LAST_SEEN_AT, TIME, "Start of the sync that last saw the row.", nullable=False),
            Column(DELETED_AT, TIME, "When a second complete sync in a row had not seen the row; null if it exists."),
            Column(PAGE, COUNT, "Page on which that sync saw the row, from 1; only in the warehouse.", nullable=False),
        ),
    )


_LEARNER = (
    Column("user_id", ID, "Learner; refers to `users.id`."),
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
            "One row per learner account.",
            Column("email", EMAIL, "Address the learner signs in with.", personal=True),
            Column("segments", JSON, "Audience segments the learner belongs to, as a list."),
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
            "One row per registration of a learner for content.",
            Column("completed_at", TIME, "When the learner completed the content."),
            Column("is_completed", BOOLEAN, "Whether the API counts the content as completed."),
            Column("completion_percentage", NUMBER, "Progress through the content, 0 to 100."),
            Column("score", NUMBER, "Score the learner reached."),
            Column("due_at", TIME, "When the content has to be completed."),
            Column("due_date", TIME, "When the content has to be completed, if `due_at` is null."),
            Column(
                "pass_status",
                TEXT,
                "Result of the assessment in the API's words, such as `passed`, `failed` or `pending`; null if "
                "there is none.",
            ),
            Column("created_at", TIME, "When the learner was registered."),
            Column("user", JSON, "The learner as the API embeds it, an object.", personal=True),
            Column("user_id", ID, "Learner; refers to `users.id`.", lifted_from="user"),
            Column("content", JSON, "The content as the API embeds it, an object.", personal=True),
            Column("content_id", ID, "Content; refers to `trainings.id` for a training.", lifted_from="content"),
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
            "One row per enrolment in a learning path.",
            *_LEARNER,
            Column("path_id", ID, "Learning path the learner is enrolled in."),
            Column("path_name", TEXT, "Title of the learning path."),
            Column("path_description", TEXT, "What the learning path is about."),
            Column("progress_percentage", NUMBER, "Progress through the path, 0 to 100."),
            Column("completed_at", TIME, "When the learner completed the path."),
        ),
    )
}
