"""Types, columns and tables, and what dlt, Arrow and SQL need to know of a declared table.

The declarations are in `resources`, `marts` and `bookkeeping`. How rows get into a table does not belong here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:  # the declarations are read by processes that do without dlt, which takes most of a second to import
    from dlt.common.data_types import TDataType
    from dlt.common.schema.typing import TTableSchemaColumns

DATASET = "analytics"
OWN = "duckdb"  # the dialect in which this project writes SQL


@dataclass(frozen=True, eq=False)
class Type:
    """The names of a type for people, dlt, Arrow and SQL (DuckDB's, which is translated for other warehouses)."""

    label: str
    dlt: "TDataType"
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
DATE = Type("date (UTC)", "date", pa.date32(), "DATE")  # only of marts


@dataclass(frozen=True)
class Column:
    """One column. `lifted_from` names the field whose value, or whose (possibly nested) `id`, the column holds.

    The history of the table, if it has one, has the past values of a `tracked` column.
    """

    name: str
    type: Type
    description: str
    personal: bool = False
    nullable: bool = True
    lifted_from: str | None = None
    tracked: bool = False


@dataclass(frozen=True)
class Table:
    """One table. Its first columns are its key, as many as `key_columns`; its description begins with the grain."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key_columns: int = 1

    @property
    def key(self) -> str:
        return self.columns[0].name

    @property
    def whole_key(self) -> list[str]:
        """The names of the columns that together are unique."""
        return [column.name for column in self.columns[: self.key_columns]]

    @property
    def grain(self) -> str:
        """What one row is, in a sentence that fits into a line of the catalog."""
        return self.description.partition(".")[0]

    @property
    def fields(self) -> list[str]:
        """The names of the columns that come from fields of the API, in order."""
        return [column.name for column in self.columns if column.name not in ADDED]

    @property
    def refers(self) -> bool:
        """Whether it has foreign keys, such as `user_id`."""
        return any(name.endswith("_id") for name in self.fields)

    def names(self, of_type: Type) -> list[str]:
        """The names of the columns of this type, in order."""
        return [column.name for column in self.columns if column.type is of_type]


EXTRA_FIELDS = "extra_fields"
CHANGED_AT = "_changed_at"
CHANGED_IN = "_changed_in"
DELETED_AT = "_deleted_at"
HASH = "_hash"
PAGE = "_page"
OF_SYNC = frozenset({CHANGED_AT, CHANGED_IN, DELETED_AT})  # what a sync notes of a row that it writes
UNPUBLISHED = frozenset({HASH, PAGE})  # only loads need them
ADDED = OF_SYNC | UNPUBLISHED | {EXTRA_FIELDS}  # to the API's own columns


def dlt_columns(table: Table) -> "TTableSchemaColumns":
    """The column hints of `table` for dlt. They agree with `arrow_schema`, or dlt would warn once per batch.

    Rows move between pages during a sync: of an id that comes twice, the row of the later page is kept.
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


def typed_schema(table: Table) -> pa.Schema:
    """The Arrow schema of the rows of a resource before a sync notes anything of them."""
    return pa.schema([field for field in arrow_schema(table) if field.name not in OF_SYNC])


def create_table(table: Table) -> str:
    """The statement that creates `table` unless it exists."""
    columns = ", ".join(f'"{c.name}" {c.type.sql}{"" if c.nullable else " NOT NULL"}' for c in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def comments(table: Table, kind: str = "TABLE") -> Iterator[str]:
    """The `COMMENT ON` statements for `table`, or a view, and its columns."""
    yield f"COMMENT ON {kind} {table.name} IS {_literal(table.description)}"
    for column in table.columns:
        yield f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_literal(column.description)}'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
