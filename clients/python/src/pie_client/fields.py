"""Takes a message of the server apart: each field is looked at before it is used.

A message is a map. A field that is missing or of another type is a ProtocolError that names the message, the field,
what was found and what was expected. Fields that nobody asks for are left alone, so that a newer server may say more.
"""

from collections.abc import Mapping
from typing import TypeVar

from .errors import ProtocolError

T = TypeVar("T")


class Fields:
    """The fields of one message, or of a map in it; `name` is what errors call it."""

    def __init__(self, name: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise ProtocolError(f"{name} of the server is {describe(value)}; expected a map")
        self.name = name
        self._fields: Mapping[object, object] = value

    def text(self, key: str) -> str:
        """A string."""
        return self._get(key, str)

    def blob(self, key: str) -> bytes:
        """Bytes."""
        return self._get(key, bytes)

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._get(key, bool)

    def count(self, key: str) -> int:
        """A whole number that is not negative."""
        value = self._get(key, int)
        if isinstance(value, bool) or value < 0:
            raise self._wrong(key, value, "a number that is not negative")
        return value

    def has(self, key: str) -> bool:
        """Whether the field is there, and says something."""
        return self._fields.get(key) is not None

    def optional_text(self, key: str) -> str | None:
        """A string, or nothing."""
        return self.text(key) if self.has(key) else None

    def optional_count(self, key: str) -> int | None:
        """A whole number that is not negative, or nothing."""
        return self.count(key) if self.has(key) else None

    def fields(self, key: str) -> "Fields":
        """A map in the message."""
        return Fields(f"{self.name}.{key}", self._fields.get(key))

    def items(self, key: str) -> list["Fields"]:
        """A list of maps."""
        values = self._get(key, list)
        return [Fields(f"{self.name}.{key}[{index}]", value) for index, value in enumerate(values)]

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        values: list[object] = self._get(key, list)
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) != len(values):
            raise self._wrong(key, values, "a list of strings")
        return texts

    def value(self, key: str) -> object:
        """Whatever is there, for what is handed on without being looked at."""
        return self._fields.get(key)

    def _get(self, key: str, kind: type[T]) -> T:
        value = self._fields.get(key)
        if not isinstance(value, kind):
            raise self._wrong(key, value, NAMES[kind])
        return value

    def _wrong(self, key: str, value: object, expected: str) -> ProtocolError:
        found = describe(value) if key in self._fields else "missing"
        return ProtocolError(f"`{key}` of {self.name} of the server is {found}; expected {expected}")


NAMES: dict[type, str] = {
    str: "a string",
    bytes: "bytes",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
}


def describe(value: object) -> str:
    """A value for an error: its kind, and its beginning."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
