"""How it works without a browser: which clip is shown, and the engine's own cuts of its grid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.clips import run
from app.clips.odds import Odds
from app.clips.request import make_request
from app.clips.sample import SAMPLE_ID
from app.how.steps import choices, steps_view
from app.how.tab import HowTab
from app.jobs import Job
from app.parts.follow import Follower
from app.session import Session
from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.config.shapes import parse_block_shape
from tests.support.engine import VALUES, fake_session, small_clips

ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session, _ = fake_session(tmp_path / "models", step_s=0, assets=ASSETS)
    yield session
    session.close()


def make_clip(session: Session, **changed: Any) -> Job:
    request = make_request(**{**VALUES, **changed})
    with small_clips():
        job = session.jobs.submit(partial(run.run, session, request), request)
        assert job.finished.wait(30)
    return job


def build(session: Session) -> HowTab:
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        made, speeds = (Follower(session.jobs, name, 0.5) for name in ("job", "speeds"))
        with gr.Tabs() as tabs, gr.Tab("How it works") as tab:
            return HowTab(session, blocks, model, tab, tabs, made, speeds, Odds(session))


def test_the_bundled_clip_is_shown_with_its_own_steps(session: Session) -> None:
    view = steps_view(session, SAMPLE_ID)
    cuts = {cut["shape"]: cut for cut in view["cuts"]}
    assert {shape: cut["steps"] for shape, cut in cuts.items()} == {
        "1x1x1": 1280, "1x1x16": 95, "1x16x16": 260,
    }  # fmt: skip
    assert view["own"] == "1x1x16"
    assert cuts[view["own"]]["steps"] == len(view["step_s"])
    json.dumps(view, allow_nan=False)


@pytest.mark.parametrize("shape", ["1x1x1", "1x1x16", "1x16x16"])
def test_what_a_token_sees_is_the_engines_own_mask(session: Session, shape: str) -> None:
    [cut] = [cut for cut in steps_view(session, SAMPLE_ID)["cuts"] if cut["shape"] == shape]
    blocks = BlockLayout((5, 16, 16), parse_block_shape(shape))
    layout = SequenceLayout("hybrid", blocks, prefix_len=1, first_video_id=0)
    ends_L = np.array(cut["ends"])
    sees = np.arange(layout.length) < ends_L[:, None]
    np.testing.assert_array_equal(sees, layout.mask_LL.numpy())
    predicted = layout.target_place_L.numpy()[cut["query"]]
    np.testing.assert_array_equal(predicted, np.arange(1280))
    held = np.array(cut["place"])
    assert sorted(held[held >= 0]) == list(range(1280 - blocks.block_len)), "all but the last block"


def test_a_step_writes_what_its_positions_predict(session: Session) -> None:
    view = steps_view(session, SAMPLE_ID)
    cut = next(cut for cut in view["cuts"] if cut["shape"] == view["own"])
    step = np.array(view["step"])
    places = np.flatnonzero(step == 60)
    held = [cut["place"][cut["query"][place]] for place in places]
    assert held == (places - 16).tolist(), "the same columns of the row before"
    assert set(step[held]) == {59}


def test_a_given_frame_needs_no_steps(session: Session, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    job = make_clip(session, start="frame", picture=str(tmp_path / "teal.png"))
    view = steps_view(session, job.id)
    assert {cut["shape"]: cut["steps"] for cut in view["cuts"]} == {
        "1x1x1": 1024, "1x1x16": 64, "1x16x16": 4,
    }  # fmt: skip
    assert view["levels"] == [7, 5, 5, 5, 5]


def test_a_longer_clip_is_cut_as_its_first_piece(session: Session) -> None:
    job = make_clip(session, num_frames=33)
    view = steps_view(session, job.id)
    assert view["grid"] == [9, 16, 16]
    assert {len(cut["query"]) for cut in view["cuts"]} == {1280}


def test_coming_to_the_tab_shows_the_newest_clip_and_keeps_a_choice(session: Session) -> None:
    tab = build(session)
    first = tab.enter("", "", None, "")
    assert (first[tab.clip].value, first[tab.shown]) == (SAMPLE_ID, SAMPLE_ID)
    job = make_clip(session)
    made = tab.enter(job.id, "", SAMPLE_ID, SAMPLE_ID)
    assert (made[tab.clip].value, made[tab.newest]) == (job.id, job.id)
    assert made[tab.steps]["job"] == job.id
    assert made[tab.steps]["tokens"] == job.result.making.tokens_thw.flatten().tolist()
    kept = tab.enter(job.id, job.id, SAMPLE_ID, SAMPLE_ID)
    assert "value" not in kept[tab.clip].constructor_args, "another may be chosen meanwhile"
    assert tab.steps not in kept, "what is shown already is not sent again"


def test_kept_clips_are_offered_once(session: Session) -> None:
    job = make_clip(session)
    titles = {clip_id: title for title, clip_id in choices(session, job.id)}
    assert list(titles) == [job.id, SAMPLE_ID]
    assert titles[job.id].startswith("door open, row 1x1x16, seed 7, fake")
    assert titles[SAMPLE_ID].endswith("bundled clip")


def test_a_clip_that_has_gone_is_one_sentence(session: Session) -> None:
    with pytest.raises(ValueError, match="There is no clip yet"):
        steps_view(session, "gone")
    with pytest.raises(gr.Error, match="There is no clip yet"):
        build(session).open("gone")


def test_without_any_clip_the_tab_says_so(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models", assets=None)
    tab = build(session)
    updates = tab.enter("", "", None, "")
    assert updates[tab.clip].value is None
    assert tab.steps not in updates
    session.close()


@pytest.mark.parametrize("data", [{"tab": "attention"}, {"tab": "elsewhere"}, {}, None, {"tab": 5}])
def test_a_step_leads_to_known_tabs_only(session: Session, data: Any) -> None:
    led = build(session).lead(gr.EventData(None, data))
    known = isinstance(data, dict) and data.get("tab") == "attention"
    assert (led.selected if known else led) == ("attention" if known else gr.skip())
