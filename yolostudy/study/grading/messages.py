"""Messages between the grader and the server that runs the answers.

A message begins with its length, so nothing that an answer writes is taken for the end of one.
"""

import ast
import os
import select
import struct
import time
from dataclasses import replace
from pathlib import Path

from ..edition import Edition, Module, parse

MAX_PRINTED = 4000  # characters that come back of an answer's prints
MAX_BYTES = 16 << 20  # of one message: an exercise of this course gives a hundredth of it at most


def send(pipe: int, content: bytes) -> None:
    content = struct.pack(">Q", len(content)) + content
    while content:
        content = content[os.write(pipe, content) :]


def receive(pipe: int, seconds: float) -> bytes:
    """One message.

    Raises TimeoutError, EOFError if the pipe is closed too soon, or ValueError for a message that
    is too long.
    """
    content, deadline = bytearray(), time.monotonic() + seconds
    while len(content) < 8 or len(content) < 8 + _length(content):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(pipe, 1 << 16)):
            raise EOFError
        content += piece
    return bytes(content[8 : 8 + _length(content)])


def _length(content: bytearray) -> int:
    (length,) = struct.unpack_from(">Q", content)
    if length > MAX_BYTES:
        raise ValueError(f"{length} bytes")
    return length


def pack(edition: Edition) -> dict:
    """An edition as plain data. Each statement keeps its own file and line."""
    return {
        name: {
            "file": str(m.file),
            "tail": m.tail,
            "statements": [[s.lead, s.text, str(s.file), s.line, s.future] for s in m.statements],
        }
        for name, m in edition.items()
    }


def unpack(packed: dict) -> Edition:
    modules = {}
    for name, module in packed.items():
        statements = []
        for lead, text, file, line, future in module["statements"]:
            for statement in parse(text, Path(file)).statements:
                for node in statement.nodes:
                    ast.increment_lineno(node, line - 1)
                statements.append(replace(statement, lead=lead, line=statement.line + line - 1, future=future))
        modules[name] = Module(tuple(statements), module["tail"], Path(module["file"]))
    return Edition(modules)
