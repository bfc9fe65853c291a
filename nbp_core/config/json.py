"""Frozen dataclasses, nested or not, to JSON and back, with every value checked.

Input: a JSON file, or its content as a dict. Output: the dataclass, or a ValueError whose one
sentence names the place, such as `train.steps must be a whole number, not "2"`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

MOST = 10**9
"""Largest number of steps, clips and the like, far above any run."""
MAX_SHOWN = 40
"""Letters of a wrong value that a sentence repeats."""

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_unicode": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dataclass_type": "an object of settings",
}
"""What a setting must be, by pydantic's names of errors."""


def read_json(path: Path) -> Any:
    """The content of a JSON file; a byte order mark before it is ignored.

    Raises ValueError, one sentence that names the file, for a file that is not JSON, and OSError
    for one that cannot be read.
    """
    data = path.read_bytes()
    if not data.strip():
        raise ValueError(f"{path.name} is empty")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{path.name} is not JSON: {error.msg}, {place}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not JSON: byte {error.start} is not UTF-8") from error
    except _TwiceError as error:
        raise ValueError(f"{path.name} has {error} twice in one object") from error
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep or holds a number of too many digits"
        raise ValueError(f"{path.name} is not JSON: {why}") from error


def reason(error: OSError) -> str:
    """Why the system refused, without the path."""
    return (error.strerror or "the system refused").lower()


class _TwiceError(ValueError):
    """A name that an object of a file has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its names and values: json.loads would keep the last of equal names."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(shown(name))
        found[name] = value
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonConfig:
    """A frozen dataclass that is written as JSON and comes back equal."""

    FORMER: ClassVar[frozenset[str]] = frozenset()
    """Settings of earlier versions, which files may still hold: they are ignored."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The settings in a dict that was read from JSON (with lists for tuples).

        Raises ValueError, one sentence with its place, for a setting that is unknown, missing, of
        another type or out of range.
        """
        try:
            text = json.dumps(_without_former(cls, data))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the settings cannot be written as JSON: {error}") from error
        try:
            return typing.cast(Self, _adapter(typing.cast(Any, cls)).validate_json(text))
        except ValidationError as error:
            raise ValueError(_sentence(error.errors(include_url=False)[0])) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a JSON file. Raises ValueError naming the file and the place."""
        data = read_json(path)
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error


def check_range(config: JsonConfig, least: float, most: float, *names: str) -> None:
    """Raises ValueError for the first of these settings outside of [least, most]; None passes."""
    for name in names:
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(one is None or least <= one <= most for one in values):
            is_large = any(one is not None and one > most for one in values)
            limit = f"at most {most:,}" if is_large else f"at least {least:,}"
            limits = limit if most in (MOST, float("inf")) else f"{least:,} to {most:,}"
            each = "every number of " if isinstance(value, tuple) else ""
            found = _cut(str(list(value) if isinstance(value, tuple) else value))
            raise ValueError(f"{each}{name} must be {limits}, not {found}")


def check_positive(config: JsonConfig, *names: str) -> None:
    """Raises ValueError for the first of these settings that is not above 0 and finite; None
    passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a finite number above 0, not {value:g}")


def check_shares(config: JsonConfig, *names: str) -> None:
    """Raises ValueError for the first of these lists of shares that is empty, has one out of range
    or has none above 0."""
    for name in names:
        values = getattr(config, name)
        if not any(value > 0 for value in values) or not all(0 <= v <= MOST for v in values):
            raise ValueError(
                f"{name} must be numbers of at least 0 and at most {MOST:,}, one of them above 0, "
                f"not {list(values)}"
            )


def check_text(config: JsonConfig, *names: str) -> None:
    """Raises ValueError for the first of these texts, or lists of texts, that is not valid Unicode,
    such as a file's name of other bytes: JSON with it could be written but not read again."""
    for name in names:
        value = getattr(config, name)
        for text in (value,) if isinstance(value, str) else value:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name} must be Unicode text, not {shown(text)}") from error


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _without_former(kind: Any, data: Any) -> Any:
    """The data without settings of earlier versions, in nested dataclasses too."""
    if not isinstance(data, dict):
        return data
    hints = typing.get_type_hints(kind)
    return {
        name: _without_former(hints[name], value)
        if dataclasses.is_dataclass(hints.get(name))
        else value
        for name, value in data.items()
        if name not in kind.FORMER
    }


def _sentence(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence that begins with its place."""
    *outer, last = error["loc"] or ("",)
    place = _place(error["loc"])
    kind, found = error["type"], shown(error["input"])
    if kind == "unexpected_keyword_argument":
        return f"unknown setting {str(last)!r}" + (f" in {_place(tuple(outer))}" if outer else "")
    if kind == "missing" and not isinstance(last, int):
        return f"{place} is missing"
    if kind == "missing":
        return f"{_place(tuple(outer))} has too few values: {found}"
    if kind == "too_long":
        return f"{place} must have {error['ctx']['max_length']} values, not {found}"
    if kind == "value_error":
        return f"{place}: {error['ctx']['error']}" if place else str(error["ctx"]["error"])
    wanted = _WANTED.get(kind)
    if kind == "literal_error":
        wanted = error["ctx"]["expected"].replace("'", '"')
    subject = place or "config"
    if wanted is None:
        return f"{subject} cannot be {found}: {error['msg']}"
    return f"{subject} must be {wanted}, not {found}"


def _place(loc: tuple[int | str, ...]) -> str:
    """('train', 'betas', 0) -> 'train.betas[0]'."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc]
    return "".join(parts).removeprefix(".")


def shown(value: Any) -> str:
    """A value as JSON writes it, the start of a long one."""
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
