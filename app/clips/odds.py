"""How likely the tokens of a clip were, computed by the engine's worker when a page asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from app.clips.progress import Making
from app.clips.run import Outcome
from app.clips.sample import SAMPLE_ID, sample
from app.jobs import Job
from app.session import Session
from nbp_core.config.presets import RANDOM_WEIGHTS
from nbp_core.config.sampling import SamplingConfig

PATIENCE_S = 20.0
GONE = "This clip was deleted."
BUSY = "The engine is busy. Point at a token again in a moment."
OTHER_WEIGHTS = (
    "The model's weights have changed since, so the probabilities can no longer be computed."
)
CHANGED = "Probabilities are not available for a clip of several actions."


class Odds:
    """The odds of the clips that pages show; each is computed once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._jobs: dict[str, Job] = {}

        def token_odds(job_id: Any) -> dict[str, Any]:
            return self.of(job_id)

        self.token_odds = token_odds
        """`of` for pages. Gradio marks the functions that they may call; methods take no mark."""

    def of(self, job_id: object) -> dict[str, Any]:
        """By place in the grid: probability, likeliest codes and their shares. Or a note, why not.

        Waits for the engine's worker, some seconds at most.
        """
        found = self._clip(job_id)
        if found is None:
            return {"note": GONE}
        try:
            job = self._job(str(job_id), *found)
        except ValueError as error:
            return {"note": str(error)}
        if not job.finished.wait(PATIENCE_S):
            return {"note": BUSY}
        odds: dict[str, Any] = job.result or {"note": job.error}
        return odds

    def _clip(self, job_id: object) -> tuple[Making, dict[str, Any]] | None:
        """The making and the manifest of a clip that was made here, or of the bundled one."""
        if job_id == SAMPLE_ID:
            bundled = sample(self.session)
            return None if bundled is None else (bundled.making, bundled.manifest)
        view = self.session.jobs.view(job_id) if isinstance(job_id, str) else None
        if view is None or not isinstance(view.result, Outcome):
            return None
        return view.result.making, view.result.manifest

    def _job(self, job_id: str, making: Making, manifest: dict[str, Any]) -> Job:
        known = self._jobs.get(job_id)
        if known is not None and (known.result is not None or not known.finished.is_set()):
            return known
        for old in list(self._jobs):  # pages ask in threads of their own
            if self._clip(old) is None:
                self._jobs.pop(old, None)
        work = partial(_compute, self.session, making, manifest)
        job = self._jobs[job_id] = self.session.jobs.submit(work)
        return job


def _compute(
    session: Session, making: Making, manifest: dict[str, Any], job: Job
) -> dict[str, Any]:
    if manifest.get("actions"):
        raise ValueError(CHANGED)
    model = manifest["model"] + (f" ({RANDOM_WEIGHTS})" if manifest.get("weights") else "")
    with job.lending():
        pipeline = session.pipeline(session.model_called(model))
    if pipeline.identity.get("sha256") != manifest.get("sha256"):
        raise ValueError(OTHER_WEIGHTS)
    sampling = SamplingConfig.of_manifest(manifest)
    odds = pipeline.token_odds(making.tokens_thw, manifest["action"], sampling)
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
