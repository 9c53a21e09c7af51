"""The marts as tables: what their rows and columns mean. The SQL that fills them is in `analytics_assets/marts`."""

from collections.abc import Mapping
from dataclasses import replace

from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import BOOLEAN, COUNT, DATE, ID, NUMBER, TEXT, TIME, Column, Table


def _like(table: str, column: str, name: str = "") -> Column:
    """A column of a mart with the meaning of `column` of `table`, renamed to `name` if given."""
    original = next(c for c in RESOURCES[table].columns if c.name == column)
    return replace(original, name=name or column, lifted_from=None)


MARTS: Mapping[str, Table] = {
    table.name: table
    for table in (
        Table(
            "registrations_enriched",
            "One row per registration, joined for analysts. Deleted registrations are left out. If the learner "
            'or the training is unknown, their columns are null and `has_user` or `has_training` is false. "Overdue" '
            "is as of the last rebuild; the table is rebuilt at least daily.",
            (
                Column("registration_id", ID, "Identifier of the registration.", nullable=False),
                _like("registrations", "user_id"),
                _like("users", "display_name", "user_display_name"),
                _like("users", "email", "user_email"),
                Column("email_domain", TEXT, "Part of the learner's address after the @, in lower case."),
                _like("users", "segments", "user_segments"),
                _like("registrations", "content_id", "training_id"),
                _like("trainings", "name", "training_name"),
                _like("trainings", "type", "training_type"),
                _like("registrations", "created_at"),
                Column("due_at", TIME, "When the content has to be completed: `due_at`, else `due_date`."),
                _like("registrations", "completed_at"),
                _like("registrations", "completion_percentage"),
                _like("registrations", "score"),
                _like("registrations", "is_completed"),
                _like("registrations", "pass_status"),
                Column(
                    "status",
                    TEXT,
                    "`completed`, else `overdue` if the due time had passed at the last rebuild, else "
                    "`in_progress` if there is progress, else `not_started`.",
                    nullable=False,
                ),
                Column("days_to_complete", COUNT, "Days from registration to completion, by UTC date."),
                Column("days_overdue", COUNT, "Days from due time to last rebuild, by UTC date; null if not overdue."),
                Column("has_user", BOOLEAN, "Whether the learner is in `users`.", nullable=False),
                Column("has_training", BOOLEAN, "Whether the content is in `trainings`.", nullable=False),
            ),
        ),
        Table(
            "training_outcomes",
            "One row per training that is not deleted. Trainings without registrations are included. Numbers that "
            "depend on the day are as of the last rebuild; the table is rebuilt at least daily.",
            (
                Column("training_id", ID, "Identifier of the training.", nullable=False),
                _like("trainings", "name", "training_name"),
                _like("trainings", "type", "training_type"),
                Column("registrations", COUNT, "Registrations for the training.", nullable=False),
                Column("not_started", COUNT, "Of these, not started and not overdue.", nullable=False),
                Column("in_progress", COUNT, "Of these, started, and neither completed nor overdue.", nullable=False),
                Column("completed", COUNT, "Of these, completed.", nullable=False),
                Column("overdue", COUNT, "Of these, not completed and past the due time.", nullable=False),
                Column("completion_rate", NUMBER, "Completed share of registrations, 0 to 1; null if there are none."),
                Column(
                    "pass_rate",
                    NUMBER,
                    "Passed share of registrations that are passed or failed, 0 to 1; null if there are none.",
                ),
                Column("mean_score", NUMBER, "Mean score of the registrations that have one."),
                Column("median_score", NUMBER, "Median score of the registrations that have one."),
                Column("median_days_to_complete", NUMBER, "Median of the days from registration to completion."),
                Column("last_completed_at", TIME, "When a learner last completed the training."),
            ),
        ),
        Table(
            "learner_progress",
            "One row per learner whose account is not deleted. Learners without registrations are included. Numbers "
            "that depend on the day are as of the last rebuild; the table is rebuilt at least daily.",
            (
                Column("user_id", ID, "Identifier of the learner.", nullable=False),
                _like("users", "display_name", "user_display_name"),
                _like("users", "email", "user_email"),
                _like("users", "segments", "user_segments"),
                Column("registrations", COUNT, "Registrations of the learner, for any content.", nullable=False),
                Column("completed", COUNT, "Of these, completed.", nullable=False),
                Column("overdue", COUNT, "Of these, not completed and past the due time.", nullable=False),
                Column(
                    "at_risk", COUNT, "Of these, due within 30 days (UTC) and not completed or overdue.", nullable=False
                ),
                Column("certificates_awarded", COUNT, "Certifications the learner was awarded.", nullable=False),
                Column(
                    "last_activity_at",
                    TIME,
                    "When the learner was last registered, completed content or was awarded a certification. Other "
                    "progress has no time in the API.",
                ),
            ),
        ),
        Table(
            "progress_by_day",
            "One row per training and day (UTC). The days of a training begin with the first sync that saw a "
            "registration for it, and end with the last sync of registrations. Counts are those at the end of the day, "
            "as far as syncs have seen them. Deleted registrations count until the sync that found them deleted. "
            "Deleted trainings are included.",
            (
                Column("training_id", ID, "Identifier of the training.", nullable=False),
                Column("day", DATE, "The day.", nullable=False),
                _like("trainings", "name", "training_name"),
                Column("registrations", COUNT, "Registrations for the training.", nullable=False),
                Column("completed", COUNT, "Of these, completed.", nullable=False),
                Column("overdue", COUNT, "Of these, not completed and due before the end of the day.", nullable=False),
                Column("in_progress", COUNT, "Of these, started, and neither completed nor overdue.", nullable=False),
            ),
            key_columns=2,
        ),
    )
}
