"""The process that runs an answer's code: loads it, and calls what the test process asks for over a socket. Standard library only.

Its source is handed to `python -c`, in a process that knows neither the tests nor what they found. Values cross as JSON, so what comes back
to the test process is plain data: an object of the answer's own crosses as a handle that equals nothing but itself.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

FRAME_BYTES = 1 << 22  # the longest message
DEEPEST = 60  # levels of nesting that cross
MOST_ITEMS = 1_000_000  # of an iterator that is read across

Pack = Callable[[Any], Any]
_SEQUENCES: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}


class UnsendableError(Exception):
    """A value that cannot cross."""


def pack(value: Any, handle: Pack, depth: int = 0) -> Any:
    """A JSON value for plain data; `handle` makes one for anything else. Subclasses of plain types cross as the plain type."""
    if depth > DEEPEST:
        raise UnsendableError(f"a value nested more than {DEEPEST} deep")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"i": hex(int.__int__(value))}
    if isinstance(value, float):
        return {"f": float.__repr__(float.__float__(value))}
    if isinstance(value, complex):
        return {"c": [float.__repr__(value.real), float.__repr__(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"b" if isinstance(value, bytes) else "B": bytes(value).hex()}
    if isinstance(value, dict):
        return {"d": [[pack(key, handle, depth + 1), pack(item, handle, depth + 1)] for key, item in dict.items(value)]}
    for tag, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {tag: [pack(item, handle, depth + 1) for item in kind.__iter__(value)]}
    return handle(value)


def unpack(packed: Any, remote: Callable[[int, str], Any]) -> Any:
    """The inverse of pack; `remote` makes what stands for a handle. What pack does not write raises one of Python's own errors."""
    if packed is None or isinstance(packed, bool | str):
        return packed
    ((tag, body),) = packed.items()
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float(body)
    if tag == "c":
        return complex(float(body[0]), float(body[1]))
    if tag in "bB":
        return bytes.fromhex(body) if tag == "b" else bytearray.fromhex(body)
    if tag == "d":
        return {unpack(key, remote): unpack(item, remote) for key, item in body}
    if tag == "r":
        return remote(int(body[0]), str(body[1]))
    return _SEQUENCES[tag](unpack(item, remote) for item in body)


def send(descriptor: int, message: Any) -> None:
    data = json.dumps(message).encode()
    if len(data) > FRAME_BYTES:
        raise UnsendableError(f"a message of more than {FRAME_BYTES} bytes")
    view = memoryview(len(data).to_bytes(4, "big") + data)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> Any:
    """The next message. Raises EOFError where there is none any more, ValueError or RecursionError for what is no message."""
    size = int.from_bytes(_read(descriptor, 4), "big")
    if size > FRAME_BYTES:
        raise ValueError("a message is too long")
    return json.loads(_read(descriptor, size))


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Server:
    """Answers the test process's messages: load, names, call, attr, iter, item, len."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.objects: dict[int, Any] = {}
        self.module = types.ModuleType("candidate")

    def run(self) -> None:
        while True:
            try:
                message = receive(self.descriptor)
            except EOFError:
                return
            send(self.descriptor, self.answer(message))

    def answer(self, message: Any) -> Any:
        operation, *arguments = message
        try:
            return ["ok", getattr(self, f"do_{operation}")(*arguments)]
        except BaseException as error:  # whatever the answer's code raises, SystemExit too, is an outcome of the test
            kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins"), "Exception")
            try:
                return ["raised", kind, str(error)[:500]]
            except BaseException:
                return ["raised", kind, ""]

    def handle(self, value: Any) -> Any:
        self.objects[id(value)] = value  # kept, so that its number stays its own
        return {"r": [id(value), type(value).__name__]}

    def pack(self, value: Any) -> Any:
        return pack(value, self.handle)

    def unpack(self, packed: Any) -> Any:
        return unpack(packed, lambda number, _: self.objects[number])

    def do_load(self, source: str) -> None:
        sys.modules["candidate"] = self.module
        exec(compile(source, "<answer>", "exec", dont_inherit=True), vars(self.module))  # noqa: S102  # what this process is for

    def do_names(self, wanted: list[str]) -> Any:
        """{name: ["module", its name] or ["value", packed]} for those that the answer defines."""
        found: dict[str, Any] = {}
        for name in wanted:
            if name in vars(self.module):
                value = vars(self.module)[name]
                found[name] = ["module", value.__name__] if isinstance(value, types.ModuleType) else ["value", self.pack(value)]
        return found

    def do_call(self, target: int, positional: list[Any], named: dict[str, Any]) -> Any:
        """[result, arguments afterwards]: the test sees what was done to its lists, sets and dicts."""
        arguments = [self.unpack(item) for item in positional]
        result = self.objects[target](*arguments, **{name: self.unpack(item) for name, item in named.items()})
        packed = self.pack(result)
        return [packed, [self.pack(item) if isinstance(item, list | dict | set | bytearray) else None for item in arguments]]

    def do_attr(self, target: int, name: str) -> Any:
        return self.pack(getattr(self.objects[target], name))

    def do_iter(self, target: int) -> Any:
        return [self.pack(item) for item in itertools.islice(iter(self.objects[target]), MOST_ITEMS)]

    def do_item(self, target: int, key: Any) -> Any:
        return self.pack(self.objects[target][self.unpack(key)])

    def do_len(self, target: int) -> Any:
        return self.pack(len(self.objects[target]))


if __name__ == "__main__":
    Server(int(sys.argv[1])).run()
