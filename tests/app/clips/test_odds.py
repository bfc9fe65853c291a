"""What the large panes know of a finished clip: when its parts were there, and its odds."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app import ui
from app.clips import odds, run
from app.clips.odds import Odds
from app.clips.progress import GIVEN
from app.clips.request import make_request
from app.clips.sample import SAMPLE_ID, sample
from app.jobs import Job
from app.parts.clip_view import clip_view
from app.session import Session
from tests.support.engine import VALUES, FakePipeline, add_model, fake_session, small_clips

ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, FakePipeline, Job]:
    session, pipeline = fake_session(tmp_path_factory.mktemp("odds") / "models", step_s=0)
    request = make_request(**VALUES)
    with small_clips():
        job = session.jobs.submit(partial(run.run, session, request), request)
        assert job.finished.wait(30)
    return session, pipeline, job


def test_a_clip_knows_when_its_tokens_and_frames_were_there(
    made: tuple[Session, FakePipeline, Job],
) -> None:
    _, _, job = made
    view = clip_view(job.id, job.result)
    assert view["grid"] == [5, 16, 16]
    assert view["step"] == [place // 16 for place in range(1280)], "rows are made one by one"
    assert view["tokens"] == job.result.making.tokens_thw.flatten().tolist()
    assert len(view["step_s"]) == 80
    assert len(view["frame_s"]) == 17
    assert view["step_s"] == sorted(view["step_s"])
    assert (view["side"], view["patch"], view["factor"], view["codes"]) == (128, 8, 4, 4375)
    json.dumps(view)


def test_tokens_of_a_context_are_given(
    made: tuple[Session, FakePipeline, Job], tmp_path: Path
) -> None:
    session, _, _ = made
    from PIL import Image

    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    values = {**VALUES, "start": "frame", "picture": str(tmp_path / "teal.png")}
    request = make_request(**values)
    with small_clips():
        job = session.jobs.submit(partial(run.run, session, request), request)
        assert job.finished.wait(30)
    step_thw = job.result.making.step_thw
    assert (step_thw[0] == GIVEN).all()
    assert (step_thw[1:] >= 0).all()


def test_odds_are_computed_once_and_by_place(made: tuple[Session, FakePipeline, Job]) -> None:
    session, _, job = made
    book = Odds(session)
    found = book.of(job.id)
    tokens = job.result.making.tokens_thw.flatten()
    assert found["probability"] == [0.5] * 1280
    assert [codes[0] for codes in found["likeliest"]] == tokens.tolist()
    assert np.allclose(found["shares"], [[0.5, 0.2, 0.1, 0.05, 0.01]] * 1280)
    json.dumps(found, allow_nan=False)
    assert book.of(job.id) is found


def test_all_tabs_share_the_odds_of_a_clip(made: tuple[Session, FakePipeline, Job]) -> None:
    session, _, job = made
    blocks = ui.build(session)
    asked = [
        part.server_fns[0](job.id)
        for part in blocks.blocks.values()
        if isinstance(part, gr.HTML) and part.elem_id in ("preview", "how-steps")
    ]
    blocks.close()
    first, second = asked
    assert first is second


def test_a_clip_of_an_earlier_version_has_odds(made: tuple[Session, FakePipeline, Job]) -> None:
    session, _, job = made
    sampling = job.result.manifest["sampling"]
    sampling["strength"] = 1.0  # a setting that there is no more
    try:
        assert "probability" in Odds(session).of(job.id)
    finally:
        del sampling["strength"]


def test_pages_may_ask_for_odds_at_once(made: tuple[Session, FakePipeline, Job]) -> None:
    session, _, job = made
    book = Odds(session)
    look = book._clip

    def look_while_others_ask(job_id: object) -> Any:
        book._jobs[f"of another page {len(book._jobs)}"] = job
        return look(job_id)

    book._clip = look_while_others_ask  # type: ignore[method-assign]
    assert "probability" in book.of(job.id)


@pytest.mark.parametrize("nonsense", [None, 5, "gone", ["x"], {"a": 1}])
def test_a_clip_that_is_not_there_is_a_note(
    made: tuple[Session, FakePipeline, Job], nonsense: Any
) -> None:
    assert Odds(made[0]).of(nonsense) == {"note": odds.GONE}


def test_a_busy_engine_is_a_note_and_asked_again(
    made: tuple[Session, FakePipeline, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _, job = made
    monkeypatch.setattr(odds, "PATIENCE_S", 0.05)
    book = Odds(session)
    blocker = session.jobs.submit(lambda job: job.stop.wait(30))
    assert book.of(job.id) == {"note": odds.BUSY}
    session.jobs.stop(blocker.id)
    monkeypatch.setattr(odds, "PATIENCE_S", 30)
    assert "probability" in book.of(job.id)


def test_the_bundled_clip_has_odds_by_the_weights_that_made_it(tmp_path: Path) -> None:
    session, pipeline = fake_session(tmp_path / "models", step_s=0, assets=ASSETS)
    add_model(session.models, "small")
    assert Odds(session).of(SAMPLE_ID) == {"note": odds.OTHER_WEIGHTS}
    bundled = sample(session)
    assert bundled is not None
    pipeline.identity["sha256"] = bundled.manifest["sha256"]
    found = Odds(session).of(SAMPLE_ID)
    tokens = bundled.making.tokens_thw.flatten()
    assert [codes[0] for codes in found["likeliest"]] == tokens.tolist()


def test_without_a_bundled_clip_there_are_no_odds_of_it(
    made: tuple[Session, FakePipeline, Job],
) -> None:
    assert Odds(made[0]).of(SAMPLE_ID) == {"note": odds.GONE}
