"""Bodies that are small on the wire and large, deep or wide when read."""

import importlib
import zlib
from functools import cache
from typing import Final

from veeam_tasks.simulator._tree import NAMESPACE

SIZE: Final = 512 << 20
_BLOCK: Final = 1 << 20
_OPENING: Final = f'<Task xmlns="{NAMESPACE}"><TaskId>task-1</TaskId><State>'.encode()


@cache
def gzip_bomb(size: int) -> bytes:
    """Return gzip of `size` bytes that begin as a task."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = squeeze.compress(_OPENING) + squeeze.flush(zlib.Z_FULL_FLUSH)
    # After a full flush equal blocks give equal bytes: squeeze one, repeat it.
    block = b"A" * _BLOCK
    once = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    tail = squeeze.flush(zlib.Z_FINISH)
    count = max(size // _BLOCK, 1)
    check = zlib.crc32(_OPENING)
    for _ in range(count):
        check = zlib.crc32(block, check)
    length = len(_OPENING) + count * _BLOCK
    gzip_head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    ending = check.to_bytes(4, "little") + (length % (1 << 32)).to_bytes(4, "little")
    return gzip_head + head + once * count + tail + ending


@cache
def brotli_bomb(size: int) -> bytes:
    """Return brotli of `size` bytes that begin as a task.

    Raises:
        ImportError: ``brotli`` is not installed.
    """
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        problem = 'the fault "brotli_bomb" needs brotli: pip install brotli'
    else:
        squeeze = brotli.Compressor(quality=1)
        parts = [squeeze.process(_OPENING)]
        block = b"A" * _BLOCK
        parts += [squeeze.process(block) for _ in range(max(size // _BLOCK, 1))]
        return b"".join((*parts, squeeze.finish()))
    raise ImportError(problem)


@cache
def entity_bomb() -> bytes:
    """Return a document whose entities expand a thousand million times."""
    names = [f"e{depth}" for depth in range(10)]
    declared = ['<!ENTITY e0 "Finished">']
    for outer, inner in zip(names[1:], names, strict=False):
        declared.append(f'<!ENTITY {outer} "{f"&{inner};" * 10}">')
    return (
        f"<!DOCTYPE Task [{''.join(declared)}]>"
        f'<Task xmlns="{NAMESPACE}"><TaskId>task-1</TaskId><State>&e9;</State></Task>'
    ).encode()


@cache
def deep_body(kind: str, depth: int = 100_000) -> bytes:
    """Return a document of elements, or arrays, within each other."""
    if kind == "json":
        return b'{"Task":' * depth + b"1" + b"}" * depth
    return b"<Task>" * depth + b"</Task>" * depth


@cache
def wide_body(kind: str, count: int = 200_000) -> bytes:
    """Return a task with that many attributes, or members."""
    if kind == "json":
        members = ",".join(f'"a{number}":1' for number in range(count))
        return f"{{{members}}}".encode()
    attributes = " ".join(f'a{number}="1"' for number in range(count))
    return f'<Task xmlns="{NAMESPACE}" {attributes} />'.encode()
