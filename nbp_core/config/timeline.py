"""Names of actions or keys, one per latent frame, as text: `left*4 stay` is left for four latent
frames, then stay for one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

MOST_NAMES = 100_000


def parse_timeline(text: str) -> tuple[str, ...]:
    """'left*2 stay' -> ('left', 'left', 'stay').

    Raises ValueError for a wrong repeat count, for no names and for more than MOST_NAMES.
    """
    names: list[str] = []
    for word in text.split():
        name, star, times = word.partition("*")
        if not name or (star and not (times.isdecimal() and 0 < int(times) <= MOST_NAMES)):
            raise ValueError(f"{word!r} is not a name and a number of times, such as left*4")
        names += [name] * (int(times) if star else 1)
        if len(names) > MOST_NAMES:
            raise ValueError(f"there are more than {MOST_NAMES:,} names")
    if not names:
        raise ValueError("there is no name, such as left*4")
    return tuple(names)


def format_timeline(names: Iterable[str]) -> str:
    """('left', 'left', 'stay') -> 'left*2 stay'."""
    runs = ((name, len(list(run))) for name, run in itertools.groupby(names))
    return " ".join(name if count == 1 else f"{name}*{count}" for name, count in runs)
