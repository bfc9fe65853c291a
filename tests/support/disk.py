"""A disk that older jobs' files fill."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from app.session import Session


def refused_while_older(session: Session, write: Callable[..., Any]) -> Callable[..., Any]:
    """`write`, on a disk that is full for as long as another job's files lie there."""

    def written(*values: Any, **options: Any) -> Any:
        if len(list(session.outputs.glob("[!.]*"))) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*values, **options)

    return written
