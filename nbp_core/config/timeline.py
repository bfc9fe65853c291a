"""Names of actions or keys, one per latent frame, as text: `left*4 stay` is left for four latent
frames, then stay for one. A name with spaces or `*` is quoted as in a shell: `'open drawer'*4`."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable

MOST_NAMES = 100_000
# Only a name that begins with a quote is quoted, so that an apostrophe within a name stays.
_PLAIN = r"""[^\s*'"][^\s*]*"""
_QUOTED = r"""'([^']*)'|"([^"]*)\""""
_WORD = re.compile(rf"({_PLAIN}|(?:{_QUOTED})+)(?:\*0*([1-9][0-9]{{0,5}}))?(?!\S)|(\S+)")


def parse_timeline(text: str) -> tuple[str, ...]:
    """'left*2 stay' -> ('left', 'left', 'stay').

    Raises ValueError for a wrong repeat count, for no names and for more than MOST_NAMES.
    """
    names: list[str] = []
    for word in _WORD.finditer(text):
        written, times = word[1] or "", word[4]
        name = written if written[:1] not in "'\"" else re.sub(_QUOTED, r"\1\2", written)
        if not name:
            raise ValueError(
                f"{word[0]!r} is not a name and a number of times, such as left*4 or"
                " 'open drawer'*4"
            )
        names += [name] * int(times or 1)
        if len(names) > MOST_NAMES:
            raise ValueError(f"there are more than {MOST_NAMES:,} names")
    if not names:
        raise ValueError("there is no name, such as left*4")
    return tuple(names)


def format_timeline(names: Iterable[str]) -> str:
    """('left', 'left', 'stay') -> 'left*2 stay'."""
    runs = ((name, len(list(run))) for name, run in itertools.groupby(names))
    return " ".join(_written(name) + (f"*{count}" if count > 1 else "") for name, count in runs)


def _written(name: str) -> str:
    return name if re.fullmatch(_PLAIN, name) else shlex.quote(name)
