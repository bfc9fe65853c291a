"""How likely the tokens of a clip were, computed by the engine's worker when a page asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from app.clips.progress import Making
from app.clips.request import Request
from app.clips.run import Outcome
from app.jobs import Job
from app.session import Session

PATIENCE_S = 20.0
GONE = "This clip was deleted."
BUSY = "The engine is busy. Point at a token again in a moment."
CHANGED = "There are no probabilities for a clip whose action changes."


class Odds:
    """The odds of the clips that pages show; each is computed once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._jobs: dict[str, Job] = {}

    def of(self, job_id: object) -> dict[str, Any]:
        """By place in the grid: probability, likeliest codes and their shares. Or a note, why not.

        Waits for the engine's worker, some seconds at most.
        """
        view = self.session.jobs.view(job_id) if isinstance(job_id, str) else None
        if view is None or not isinstance(view.result, Outcome):
            return {"note": GONE}
        try:
            job = self._job(view.id, view.request, view.result.making)
        except ValueError as error:
            return {"note": str(error)}
        if not job.finished.wait(PATIENCE_S):
            return {"note": BUSY}
        found: dict[str, Any] = job.result or {"note": job.error}
        return found

    def _job(self, job_id: str, request: Request, making: Making) -> Job:
        known = self._jobs.get(job_id)
        if known is not None and (known.result is not None or not known.finished.is_set()):
            return known
        for old in [name for name in self._jobs if self.session.jobs.view(name) is None]:
            del self._jobs[old]
        work = partial(_compute, self.session, request, making)
        job = self._jobs[job_id] = self.session.jobs.submit(work)
        return job


def _compute(session: Session, request: Request, making: Making, job: Job) -> dict[str, Any]:
    if request.actions:
        raise ValueError(CHANGED)
    pipeline = session.pipeline(request.model)
    odds = pipeline.token_odds(making.tokens_thw, request.action, request.sampling)
    probability = odds.probability_thw.flatten()
    kinds = len(odds.likeliest_thwK[0, 0, 0])
    return {
        "probability": [None if np.isnan(p) else round(float(p), 5) for p in probability],
        "likeliest": odds.likeliest_thwK.reshape(-1, kinds).tolist(),
        "shares": np.nan_to_num(odds.likeliest_probability_thwK)
        .reshape(-1, kinds)
        .round(5)
        .tolist(),
    }
