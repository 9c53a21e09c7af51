"""The body of an answer: read and decompressed within limits on its size."""

import zlib

import aiohttp

from analytics_assets.extract.faults import AnswerTooLarge, Fault

MOST_BYTES = 16 << 20  # of a body, before and after decompression; a page of 100 rows has about 50 kB
MOST_OBJECTS = 100_000  # objects and lists in a body; each takes many times the memory of its text
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # a JSON parser may ignore it (RFC 8259, 8.1)
ENCODINGS = ("gzip", "deflate")
KNOWN_ENCODINGS = (*ENCODINGS, "identity", "br", "zstd", "compress")  # messages quote no others
MOST_LAYERS = 2
MOST_MEMBERS = 16
GZIP = b"\x1f\x8b"
SMALLER = "ask for fewer rows at once: API_PAGE_SIZE"


async def body_of(answer: aiohttp.ClientResponse, shown: str) -> bytes:
    """Read the body of an answer and decode it as its `Content-Encoding` says."""
    named = ",".join(answer.headers.getall("Content-Encoding", ())).lower().split(",")
    packed = [name.strip().removeprefix("x-") for name in named if name.strip()]  # the old names (RFC 9110, 8.4.1)
    if len(packed) > MOST_LAYERS or any(name not in (*ENCODINGS, "identity") for name in packed):
        names = ", ".join(name if name in KNOWN_ENCODINGS else "something unknown" for name in packed[:MOST_LAYERS])
        raise Fault(f"{shown}: the body is encoded as {names}, which was not asked for")
    chunks, size = [], 0
    async for chunk in answer.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        _check_size(size, shown)
    body = b"".join(chunks)
    for name in reversed(packed):
        body = _unpacked(body, name, shown)
    body = body.removeprefix(BYTE_ORDER_MARK)
    if len(body) > MOST_OBJECTS and body.count(b"{") + body.count(b"[") > MOST_OBJECTS:
        raise AnswerTooLarge(f"{shown}: the body holds more than {MOST_OBJECTS:,} objects and lists; {SMALLER}")
    return body


def _unpacked(body: bytes, encoding: str, shown: str) -> bytes:
    """The decoded body. Raises `AnswerTooLarge` as soon as it exceeds the limit."""
    if encoding == "identity" or not body:
        return body
    unpacked = b""
    for _ in range(MOST_MEMBERS):  # gzip may have several members, one after the other (RFC 1952, 2.2)
        # Some servers omit the two-byte zlib header of `deflate` (RFC 9110, 8.4.1.2), which has 8 in four bits.
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if encoding == "deflate" and body[0] & 15 != 8 else 47)
        try:
            unpacked += unpacker.decompress(body, MOST_BYTES + 1 - len(unpacked))
        except zlib.error as error:
            raise Fault(f"{shown}: the body cannot be unpacked ({error})", again=True) from None
        _check_size(len(unpacked), shown)
        if not unpacker.eof:
            raise Fault(f"{shown}: the body was cut short", again=True)
        body = unpacker.unused_data
        if not body.startswith(GZIP):
            return unpacked
    raise Fault(f"{shown}: the body is packed in more than {MOST_MEMBERS} parts", again=True)


def _check_size(size: int, shown: str) -> None:
    if size > MOST_BYTES:
        raise AnswerTooLarge(f"{shown}: the body is larger than {MOST_BYTES >> 20} MB; {SMALLER}")
