"""The process that compiles callers' formats: a request on stdin, an answer on stdout.

Started by `compiler` and by nothing else. It ends when its stdin closes, or when a
format takes more memory than there is; then only that format is refused.

    request, answer:  length, 4 bytes, the highest first | that many bytes
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import threading
from typing import BinaryIO

from miao.v1 import generation_pb2 as pb
from miao_service.formats.grammars import FormatError, grammar_of

LENGTH = struct.Struct(">I")

_MEMORY_BYTES = 1 << 30
_STACK_BYTES = 8 << 20  # engines have four times that for the same grammar


def answer(request: bytes) -> bytes:
    """The grammar of a serialized ResponseFormat, or the field and what is wrong with it."""
    try:
        return json.dumps({"grammar": grammar_of(pb.ResponseFormat.FromString(request))}).encode()
    except FormatError as error:
        return json.dumps({"field": error.field, "fault": error.message}).encode()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while len(header := requests.read(LENGTH.size)) == LENGTH.size:
        reply = answer(requests.read(LENGTH.unpack(header)[0]))
        answers.write(LENGTH.pack(len(reply)) + reply)
        answers.flush()


def main() -> None:
    """Serve until stdin closes."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=_serve, args=(sys.stdin.buffer, sys.stdout.buffer))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
