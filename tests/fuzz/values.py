"""Values and messages that a caller might send by mistake or on purpose."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

TEXTS = [
    *(
        "",
        " ",
        "\0",
        "\n",
        "hello",
        "你好，世界",
        "😀" * 7,
        "e\u0301",
        "\u202e\u200f",
        "\ufdd0\ufdef",
    ),
    *("<|im_start|>", "<|im_end|>", "<|im_end|", "<s>", "{{ 7 * 7 }}", "{% for x in y %}", "{{"),
    *("(a+)+$", "(" * 3000, "[" * 3000, "\\", ".*" * 500, "(?<=a)b", "a{1,99999}", "\\1"),
    *('{"a":' * 1500, "[" * 5000 + "]" * 5000, '{"$ref": "#"}', "null", "root ::= root"),
    *("../../etc/passwd", "%s%n%x", "'; DROP TABLE x; --", "rq:queue:tiny:normal", "a:b", "*"),
    *("x" * 257, "x" * 4096, "为" * 2000, "a\r\nb", "-1", "1e999", "NaN", "tiny", "tiny\0"),
]
INTEGERS = [0, 1, 2, 3, 7, 20, 255, 256, 1000, 4095, 4096, 2**31 - 1, 2**31, 2**32 - 1, 2**53]
WIDE = [2**63 - 1, 2**63, 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, 0.5, 5.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan")]

_SIGNED = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_ENUM,
}
_WIDE = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_FLOATING = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}


class Values:
    """Draws values for the fields of messages. The same seed draws the same."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.known: list[str] = []  # ids and tokens that the service has given out

    def message(self, descriptor: Descriptor, density: float = 0.3) -> Message:
        """A message of which each field is set with this probability."""
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self.rng.random() < density:
                self.set(message, field)
        return message

    def disturb(self, message: Message) -> None:
        """Set one field, here or further in, to something else."""
        field = self.rng.choice(message.DESCRIPTOR.fields) if message.DESCRIPTOR.fields else None
        if field is None:
            return
        inner = field.message_type is not None and not field.is_repeated
        if inner and self.rng.random() < 0.8:
            self.disturb(getattr(message, field.name))
        else:
            self.set(message, field)

    def set(self, message: Message, field: FieldDescriptor) -> None:
        """Set a field to a value of its type."""
        if field.is_repeated:
            self._fill(getattr(message, field.name), field)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self.message(field.message_type, 0.6))
        else:
            setattr(message, field.name, self.scalar(field))

    def scalar(self, field: FieldDescriptor) -> Any:
        """A value for a field that is not a message."""
        rng, kind = self.rng, field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self.text()
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in _FLOATING:
            return rng.choice([*FLOATS, rng.random()])
        number = rng.choice([*INTEGERS, *(WIDE if kind in _WIDE else []), rng.randrange(100)])
        if kind in _SIGNED:
            limit = 2**63 if kind == FieldDescriptor.CPPTYPE_INT64 else 2**31
            return (number if rng.random() < 0.6 else -number) % (2 * limit) - limit
        return number if kind == FieldDescriptor.CPPTYPE_UINT64 else number % 2**32

    def text(self) -> str:
        """A text, mostly short."""
        rng = self.rng
        if self.known and rng.random() < 0.3:
            return rng.choice(self.known)
        if rng.random() < 0.02:
            return rng.choice("x为😀") * rng.randrange(1, 300_000)
        return "".join(rng.choices(TEXTS, k=rng.choice([1, 1, 1, 2, 5])))

    def _fill(self, values: Any, field: FieldDescriptor) -> None:
        count = self.rng.choice([0, 1, 2, 3, 17, 65, 1025 if self.rng.random() < 0.1 else 4])
        for _ in range(count):
            if field.message_type is None:
                values.append(self.scalar(field))
            elif field.message_type.GetOptions().map_entry:
                values[self.rng.randrange(2**32)] = self.rng.choice(FLOATS)
            else:
                values.append(self.message(field.message_type, 0.6))
