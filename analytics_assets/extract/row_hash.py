"""A hash of what the API says of each row, by which a sync tells changed rows from unchanged ones.

It must not depend on the version of a library: another hash would write every row again.
"""

from array import array
from collections.abc import Mapping
from itertools import repeat
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_digest

from analytics_assets.tables.schema import ADDED, EXTRA_FIELDS, NUMBER, TIME, Table

READING = 1  # increase it when values are read differently, so that every row is written again
SEPARATOR, NULL = b"\xff", b"\xfe"  # neither byte occurs in UTF-8


def row_hashes(table: Table, arrays: Mapping[str, pa.Array]) -> pa.Array:
    """A 64-bit hash per row over the columns of the API and `EXTRA_FIELDS`, as int64.

    Another declaration of the table gives another hash, so that values get into a column that is new, or into the
    history if a column is newly tracked.
    """
    declared = [(c.name, c.type.label, c.tracked) for c in table.columns if c.name not in ADDED]
    seed = crc32(repr((READING, declared)).encode())
    hashed = [_bytes(arrays[c.name], c.type) for c in table.columns if c.name == EXTRA_FIELDS or c.name not in ADDED]
    joined = pc.binary_join_element_wise(
        *hashed, pa.scalar(SEPARATOR, pa.binary()), null_handling="replace", null_replacement=NULL
    )
    hashes = array("q", b"".join(map(xxh3_64_digest, joined.to_pylist(), repeat(seed))))
    return pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])


def _bytes(values: pa.Array, of_type: object) -> pa.Array:
    """The values as bytes: times and doubles as the integer of their bits, since their texts differ per version."""
    if of_type is TIME:
        values = values.cast(pa.int64())
    elif of_type is NUMBER:
        values = values.view(pa.int64())
    return values.cast(pa.string()).cast(pa.binary())
