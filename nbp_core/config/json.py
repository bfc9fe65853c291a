"""Frozen dataclasses, nested as they like, to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self


def _from_json(kind: Any, value: Any) -> Any:
    """Rebuilds a field of the annotated kind (nested dataclasses, tuples) from JSON values."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value)
    if origin is tuple:
        args = typing.get_args(kind)
        kinds = [args[0]] * len(value) if args[1:] == (...,) else args
        return tuple(_from_json(k, v) for k, v in zip(kinds, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _from_json(typing.get_args(kind)[0], value)
    return value


def _build(kind: Any, data: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    data = {name: value for name, value in data.items() if name not in kind.FORMER}
    unknown = sorted(set(data) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r} in a {kind.__name__}")
    return kind(**{name: _from_json(hints[name], value) for name, value in data.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonConfig:
    """A frozen dataclass that goes to JSON and comes back equal."""

    FORMER: ClassVar[frozenset[str]] = frozenset()
    """Settings of earlier versions, which files may still hold: they are ignored."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Raises ValueError for unknown, missing or impossible settings."""
        try:
            return typing.cast(Self, _build(cls, data))
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a complete {cls.__name__}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.from_dict(json.loads(path.read_text()))
