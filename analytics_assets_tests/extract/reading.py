"""What a sync reads, without Dagster and without loading it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa

from analytics_assets.extract.reader import Reader
from analytics_assets.extract.reading import Reading
from analytics_assets.extract.source import Source
from analytics_assets.tables.resources import RESOURCES
from analytics_assets.tables.schema import Table
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import configured

USERS = RESOURCES["users"]


@contextmanager
def reading(sync: Sync | None = None, table: Table = USERS) -> Iterator[Reading]:
    """A reading of `table` that is under way; inside, `batches` gives what it reads."""
    with closing(Reader(configured())) as reader:
        reader.begin(table, sync or Sync())
        with reader.read(table) as begun:
            yield begun


def batches(begun: Reading) -> Iterator[pa.Table]:
    """The batches that dlt would load; an error comes as dlt's, caused by what was raised."""
    with Source(begun.table, configured()).of(begun) as source:
        yield from source


def read(sync: Sync | None = None, table: Table = USERS) -> list[str]:
    """The ids that a sync would load, in order."""
    with reading(sync, table) as begun:
        return [key for batch in batches(begun) for key in batch["id"].to_pylist()]
