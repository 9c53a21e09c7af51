"""The tables, declared once: name, grain, columns, their meaning, and which of them are personal data.

Here belongs what a table *is*, and what follows from that for dlt, Arrow, SQL and the documentation. How rows get
into a table does not. A new field of the API is one line in `RESOURCES`. Most of this file is data, hence its length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
from dlt.common.data_types import TDataType
from dlt.common.schema.typing import TTableSchemaColumns

DATASET = "analytics"
OWN = "duckdb"  # whose SQL this project writes


@dataclass(frozen=True, eq=False)
class Type:
    """How one kind of value is called by people, by dlt, by Arrow and by SQL (DuckDB's, translated for others)."""

    label: str
    dlt: TDataType
    arrow: pa.DataType
    sql: str


ID = Type("text", "text", pa.string(), "TEXT")  # integers in some answers of the API
TEXT = Type("text", "text", pa.string(), "TEXT")
EMAIL = Type("text", "text", pa.string(), "TEXT")
JSON = Type("text (JSON)", "text", pa.string(), "TEXT")  # a JSON type differs between warehouses, and refuses some rows
TIME = Type("timestamp (UTC)", "timestamp", pa.timestamp("us", "UTC"), "TIMESTAMPTZ")
BOOLEAN = Type("boolean", "bool", pa.bool_(), "BOOLEAN")
NUMBER = Type("double", "double", pa.float64(), "DOUBLE")
COUNT = Type("bigint", "bigint", pa.int64(), "BIGINT")


@dataclass(frozen=True)
class Column:
    """One column. `lifted_from` names the object field that carries the value, bare or nested in itself, as its id."""

    name: str
    type: Type
    description: str
    personal: bool = False
    nullable: bool = True
    lifted_from: str | None = None


@dataclass(frozen=True)
class Table:
    """One table; the first column is its key. The description's first sentence is its grain."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        return self.columns[0].name

    @property
    def grain(self) -> str:
        """What one row is, short enough for a line of the catalog."""
        return self.description.partition(".")[0]

    @property
    def fields(self) -> list[str]:
        """The names of the columns that come from fields of the API, in order."""
        return [column.name for column in self.columns if column.name not in ADDED]

    @property
    def refers(self) -> bool:
        """Whether its rows refer to those of other tables, as with a `user_id`."""
        return any(name.endswith("_id") for name in self.fields)

    def names(self, of_type: Type) -> list[str]:
        """The names of the columns of this type, in order."""
        return [column.name for column in self.columns if column.type is of_type]


LAST_SEEN_AT = "_last_seen_at"
DELETED_AT = "_deleted_at"
PAGE = "_page"
EXTRA_FIELDS = "extra_fields"
ADDED = frozenset({LAST_SEEN_AT, DELETED_AT, PAGE, EXTRA_FIELDS})  # by every sync to the API's own columns


def _resource(name: str, description: str, *columns: Column) -> Table:
    """A table of the API: its own columns between the key and those that every sync adds."""
    return Table(
        name,
        description,
        (
            Column("id", ID, "Identifier given by the API.", nullable=False),
            *columns,
            Column(EXTRA_FIELDS, JSON, "Fields of the API that have no column here, as an object.", personal=True),
            Column(LAST_SEEN_AT, TIME, "Start of the sync that last saw the row.", nullable=False),
            Column(DELETED_AT, TIME, "When two complete syncs in a row had not seen the row; null while it lives."),
            Column(
                PAGE,
                COUNT,
                "Page of that sync's answers the row stood on, from 1; in the warehouse only.",
                nullable=False,
            ),
        ),
    )


_LEARNER = (
    Column("user_id", ID, "Learner, `users.id`."),
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
            Column("due_date", TIME, "When the content has to be completed, where the API has no `due_at`."),
            Column(
                "pass_status",
                TEXT,
                "Result of the assessment in the API's words, such as `passed`, `failed` or `pending`; null where "
                "there is none.",
            ),
            Column("created_at", TIME, "When the learner was registered."),
            Column("user", JSON, "The learner as the API embeds it, an object.", personal=True),
            Column("user_id", ID, "Learner, `users.id`.", lifted_from="user"),
            Column("content", JSON, "The content as the API embeds it, an object.", personal=True),
            Column("content_id", ID, "Content, `trainings.id` if it is a training.", lifted_from="content"),
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


def _like(table: str, column: str, name: str = "") -> Column:
    """A column of a mart that means what `column` of `table` means, under this name."""
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
                Column("registration_id", ID, "The registration, `registrations.id`.", nullable=False),
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
                Column(
                    "days_overdue",
                    COUNT,
                    "Days by UTC date from the due time of an overdue registration to the last rebuild.",
                ),
                Column("has_user", BOOLEAN, "Whether the learner is in `users`.", nullable=False),
                Column("has_training", BOOLEAN, "Whether the content is in `trainings`.", nullable=False),
            ),
        ),
        Table(
            "training_outcomes",
            "One row per training that is not deleted. Trainings without registrations are included. Numbers that "
            "depend on the day are as of the last rebuild; the table is rebuilt at least daily.",
            (
                Column("training_id", ID, "The training, `trainings.id`.", nullable=False),
                _like("trainings", "name", "training_name"),
                _like("trainings", "type", "training_type"),
                Column("registrations", COUNT, "Registrations for the training.", nullable=False),
                Column("not_started", COUNT, "Of these, neither begun, completed nor overdue today.", nullable=False),
                Column("in_progress", COUNT, "Of these, begun, neither completed nor overdue today.", nullable=False),
                Column("completed", COUNT, "Of these, completed.", nullable=False),
                Column("overdue", COUNT, "Of these, not completed and past the due time today.", nullable=False),
                Column("completion_rate", NUMBER, "Completed share of the registrations, 0 to 1; null without any."),
                Column(
                    "pass_rate",
                    NUMBER,
                    "Share of passed among the registrations that are passed or failed, 0 to 1; null without any.",
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
                Column("user_id", ID, "The learner, `users.id`.", nullable=False),
                _like("users", "display_name", "user_display_name"),
                _like("users", "email", "user_email"),
                _like("users", "segments", "user_segments"),
                Column(
                    "registrations", COUNT, "Registrations of the learner, for content of any kind.", nullable=False
                ),
                Column("completed", COUNT, "Of these, completed.", nullable=False),
                Column("overdue", COUNT, "Of these, not completed and past the due time today.", nullable=False),
                Column(
                    "at_risk",
                    COUNT,
                    "Of these, due within 30 days from today by UTC date, neither completed nor overdue.",
                    nullable=False,
                ),
                Column("certificates_awarded", COUNT, "Certifications the learner was awarded.", nullable=False),
                Column(
                    "last_activity_at",
                    TIME,
                    "When the learner was last registered, completed content or was awarded a certification; progress "
                    "in between has no time.",
                ),
            ),
        ),
    )
}

REJECTED_ROWS = Table(
    "rejected_rows",
    "One row of the API that the last complete sync of its resource could not read. It is in no other table, or in an "
    "older version.",
    (
        Column("resource", TEXT, "Resource the row belongs to.", nullable=False),
        Column("id", ID, "Identifier given by the API, if it could be read."),
        Column("reason", TEXT, "Which columns could not be read, and as what.", nullable=False),
        Column("page", COUNT, "Page of the answers the row stood on, from 1.", nullable=False),
        Column("row", JSON, "The row as the API gave it.", personal=True, nullable=False),
        Column("synced_at", TIME, "Start of the sync that set the row aside.", nullable=False),
    ),
)
SYNCS = Table(
    "syncs",
    "One row per complete sync of a resource.",
    (
        Column("resource", TEXT, "Resource that was read.", nullable=False),
        Column("started_at", TIME, "When the reading began; `_last_seen_at` of the rows it saw.", nullable=False),
        Column("finished_at", TIME, "When the rows had been loaded.", nullable=False),
        Column(
            "window_start",
            TIME,
            "Where only rows of a window of dates were read, the beginning of that; such a sync sees neither deletions "
            "nor later changes of older rows. Null where the whole resource was read.",
        ),
        Column("row_count", COUNT, "Rows the API gave, an id that came twice counted once.", nullable=False),
        Column("rejected", COUNT, "Rows that could not be read.", nullable=False),
        Column("deleted", COUNT, "Rows of the table found to be deleted.", nullable=False),
        Column("pages", COUNT, "Pages that were read.", nullable=False),
        Column(
            "resumed_pages",
            COUNT,
            "Of these, pages that a sync which was broken off had read; such a sync infers no deletions.",
        ),
        Column(
            "calls",
            COUNT,
            "Requests that were sent, repeated ones included, by the try that succeeded.",
            nullable=False,
        ),
    ),
)
LEDGER: Mapping[str, Table] = {table.name: table for table in (REJECTED_ROWS, SYNCS)}

DATA_DICTIONARY = Table(
    "data_dictionary",
    "One row per column of any table or view.",
    (
        Column("table_name", TEXT, "Table or view that has the column.", nullable=False),
        Column("column_name", TEXT, "Name of the column.", nullable=False),
        Column("type", TEXT, "Type of its values.", nullable=False),
        Column("meaning", TEXT, "What its values mean.", nullable=False),
        Column("source", TEXT, "Where its values come from.", nullable=False),
        Column("personal_data", BOOLEAN, "Whether its values are personal data.", nullable=False),
    ),
)
SYNC_LOG = Table(
    "sync_log",
    "One row per complete sync of a resource. The table syncs has more of it.",
    tuple(
        column
        for column in SYNCS.columns
        if column.name in ("resource", "finished_at", "window_start", "row_count", "rejected", "deleted", "calls")
    ),
)
VIEWS: Mapping[str, Table] = {view.name: view for view in (DATA_DICTIONARY, SYNC_LOG)}


def dlt_columns(table: Table) -> TTableSchemaColumns:
    """The column hints of `table` for dlt. They agree with `arrow_schema`, or dlt would warn once a batch.

    Rows move between pages while they are read: of an id that came twice, the later page's row stays.
    """
    hints: TTableSchemaColumns = {
        column.name: {"name": column.name, "data_type": column.type.dlt, "nullable": column.nullable}
        for column in table.columns
    }
    hints[PAGE]["dedup_sort"] = "desc"
    return hints


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of `table`, columns in declared order."""
    return pa.schema([pa.field(column.name, column.type.arrow, column.nullable) for column in table.columns])


def create_table(table: Table) -> str:
    """The statement that makes `table` where it is not there yet."""
    columns = ", ".join(f'"{c.name}" {c.type.sql}{"" if c.nullable else " NOT NULL"}' for c in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def comments(table: Table, kind: str = "TABLE") -> Iterator[str]:
    """The `COMMENT ON` statements for `table`, or a view, and its columns."""
    yield f"COMMENT ON {kind} {table.name} IS {_literal(table.description)}"
    for column in table.columns:
        yield f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_literal(column.description)}'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def as_markdown(tables: Mapping[str, Table]) -> str:
    """The tables as a document: a heading, the grain and a row a column for each."""
    lines: list[str] = []
    for table in tables.values():
        lines += [f"### {table.name}", "", table.description, "", "| column | type | meaning |", "| --- | --- | --- |"]
        for c in table.columns:
            lines.append(f"| `{c.name}` | {c.type.label} | {c.description}{' *Personal data.*' * c.personal} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print("# The tables\n\nWritten by `make docs` from `analytics_assets/tables/schema.py`.\n")  # noqa: T201
    print(as_markdown({**RESOURCES, **MARTS, **LEDGER, **VIEWS}), end="")  # noqa: T201
