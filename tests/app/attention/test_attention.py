"""The Attention tab: which clips it offers, what it sends to the page, what a click asks for."""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from app.attention import clips
from app.attention.asked import Asked
from app.attention.clips import UPLOAD
from app.attention.look import frame_of
from app.attention.page import AttentionPage
from app.attention.shown import Shown
from app.attention.tab import NO_CLIP, NO_FILE, WAITING, AttentionTab
from app.clips.request import make_request
from app.clips.run import run
from app.jobs import Job
from app.parts.follow import Follower
from app.session import Session
from nbp_core.attention_maps.pictures import levels
from nbp_core.media.video import write_video
from tests.support.engine import VALUES
from tests.support.models import save_pipeline

LENGTH = 1 + 1280


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models")).parent


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    frames = np.random.default_rng(0).integers(0, 255, (7, 128, 128, 3), np.uint8)
    write_video(folder / "door-open.mp4", frames)
    return folder


@pytest.fixture(scope="module")
def tab(models: Path, assets: Path) -> Iterator[AttentionTab]:
    session = Session(models, "cpu", assets=assets)
    yield build(session)
    session.close()


def build(session: Session) -> AttentionTab:
    with gr.Blocks(), gr.Tabs(), gr.Tab("Attention") as room:
        model = gr.Dropdown(["tiny"], value="tiny")
        kept, newest = gr.BrowserState(), gr.BrowserState()
        made = Follower(session.jobs, "test", 0.5)
        return AttentionTab(session, room, model, kept, newest, made)


def make_clip(session: Session, **values: Any) -> Job:
    request = make_request(**{**VALUES, "model": "tiny", "block": "1x16x16", **values})
    job = session.jobs.submit(partial(run, session, request), request)
    assert job.finished.wait(100), "the clip takes too long"
    assert job.result is not None, job.error
    return job


def enter(tab: AttentionTab, key: str | None = None, **known: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "upload": None,
        "crop": 0.5,
        "model": "tiny",
        "beside": False,
        "made": "",
        "newest": "",
    }
    given |= {"asked": Asked(), "shown": ("", ""), "kept": None}
    return at_last(tab, tab.enter(key, **{**given, **known}))


def at_last(tab: AttentionTab, answers: Iterator[dict[Any, Any]]) -> dict[str, Any]:
    """What the page has once an event has given all of its answers, by the page's own names."""
    return {name: one for answer in answers for name, one in named(tab.page, answer).items()}


def named(page: AttentionPage, updates: dict[Any, Any]) -> dict[str, Any]:
    """Updates by the page's own names; of a component, its new properties."""
    names = {id(part): name for name, part in vars(page).items()}
    names |= {id(button): f"find {i}" for i, button in enumerate(page.finds)}
    names |= {id(button): suffix[1:] for suffix, button in page.downloads.items()}
    return {
        names[id(part)]: value.constructor_args if hasattr(value, "constructor_args") else value
        for part, value in updates.items()
    }


def choose(tab: AttentionTab, **other: Any) -> tuple[Any, ...]:
    values = {
        "key": "bundled:door-open.mp4", "upload": None, "crop": 0.5, "model": "tiny",
        "beside": False, "action": "door-open", "block": "1x1x16", "layer": 1, "head": "mean",
        "place": -1,
    }  # fmt: skip
    return tuple({**values, **other}.values())


SETTINGS = (False, "door-open", "1x1x16")
"""The last settings that were accepted: beside, action, block."""


def unpack(text: str, kind: Any) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_clip_just_made_is_opened_in_its_own_blocks(tab: AttentionTab) -> None:
    job = make_clip(tab.session)
    updates = enter(tab, made=job.id)
    assert updates["newest"] == updates["clip"]["value"] == f"made:{job.id}"
    assert updates["block"]["value"] == "1x16x16"
    assert ("frame 1x16x16, the clip's own", "1x16x16") in updates["block"]["choices"]
    assert updates["action"]["value"] == "door-open"
    assert updates["map"]["panes"][0]["n"] == LENGTH
    assert len(updates["look"]["frames"]) == 5
    assert "generated here, made by frame 1x16x16" in updates["measured"]
    assert "weights test-transformer (" in updates["measured"]
    clip = clips.find(tab.session, f"made:{job.id}", None, None)
    assert clip.tokens_thw is not None
    assert (clip.tokens_thw == job.result.last.tokens_thw).all()
    assert clip.frames_THWC.shape == (17, 128, 128, 3)
    # Coming back, nothing is sent again; a visitor's own choice stays.
    key = updates["clip"]["value"]
    again = enter(tab, key, made=job.id, newest=key, shown=updates["shown"])
    assert set(again) == {"clip", "newest"}
    [other_model] = tab.follow_model(key, None, 0.5, "other", False, Asked(), updates["shown"])
    assert list(other_model) == [tab.page.place], "a clip made here keeps its model"
    other = enter(tab, "bundled:door-open.mp4", made=job.id, newest=key)
    assert "value" not in other["clip"], "another may be chosen meanwhile"
    assert other["block"]["value"] == "1x1x16"
    assert len(other["look"]["frames"]) == 2, "seven frames fill two latent frames"


@pytest.mark.parametrize(
    "comment",
    [
        "[" * 100_000,
        '{"seed": ' + "9" * 5_000 + "}",
        '{"block_shape": "by hand", "action": ["door-open"]}',
        '{"block_shape": "1x3x3"}',
        '{"block_shape": "' + "9" * 5_000 + 'x1x1"}',
    ],
    ids=range(5),
)
def test_a_clip_is_opened_whatever_its_comment_says(
    tab: AttentionTab, tmp_path: Path, comment: str
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, np.zeros((5, 128, 128, 3), np.uint8), comment=comment)
    clip = clips.find(tab.session, UPLOAD, "tiny", str(path))
    assert (clip.action, clip.block_shape) == (None, None)


def test_the_square_of_an_upload_is_the_chosen_one(tab: AttentionTab, tmp_path: Path) -> None:
    wide = np.zeros((5, 128, 384, 3), np.uint8)
    wide[:, :, 256:] = 255
    write_video(tmp_path / "wide.mp4", wide)
    left, right = (
        clips.find(tab.session, UPLOAD, "tiny", str(tmp_path / "wide.mp4"), crop)
        for crop in (0.0, 1.0)
    )
    assert left.frames_THWC.max() < 30
    assert right.frames_THWC.min() > 225
    assert left.key != right.key, "each is opened for itself"


def test_what_was_open_is_found_again(tab: AttentionTab, assets: Path, tmp_path: Path) -> None:
    newest = clips.first(tab.session, "")
    other = {"beside": True, "action": "pan-left", "block": "1x4x16", "layer": 2, "head": "1"}
    shown = named(tab.page, tab.show(*choose(tab, **other), Asked(), SETTINGS))
    again = enter(tab, kept=shown["kept"], newest=newest)
    assert again["clip"]["value"] == "bundled:door-open.mp4"
    values = {name: again[name]["value"] for name in ("action", "block", "layer", "head")}
    assert {"beside": again["beside"], **values} == other
    assert again["map"] == shown["map"]

    own = tmp_path / "mine.mp4"
    own.write_bytes((assets / "door-open.mp4").read_bytes())
    kept = tab.keep_new(UPLOAD, str(own), 0.25, False, Asked())
    assert str(tmp_path) not in json.dumps(kept)
    again = enter(tab, kept=kept, newest=newest)
    assert again["clip"]["value"] == UPLOAD
    assert again["upload"]["value"] == str(own)
    assert again["kept"]["own"] == kept["own"]
    assert again["kept"]["crop"] == again["crop"]["value"] == 0.25
    assert enter(tab, kept=kept, newest="made:other")["clip"]["value"] == newest
    own.unlink()
    gone = enter(tab, kept=kept, newest=newest)
    assert gone["clip"]["value"] == newest, "it was deleted"
    odd: list[Any] = [
        {**kept, "layer": "2"},
        {"key": 3},
        [],
        None,
    ]
    for one in odd:
        assert enter(tab, kept=one, newest=newest)["clip"]["value"] == newest


def test_no_other_clip_is_shown_while_the_one_that_the_menu_names_waits(tab: AttentionTab) -> None:
    go_on, nothing = threading.Event(), {"map": None, "look": None, "heads": None}
    job = tab.session.jobs.submit(lambda job: go_on.wait(30))
    answers = tab.open("bundled:door-open.mp4", None, 0.5, "tiny", False, Asked())
    waiting = named(tab.page, next(answers))
    assert nothing.items() <= waiting.items()
    assert WAITING in waiting["measured"]
    assert not any(waiting[f"find {i}"]["visible"] for i in range(len(tab.page.finds)))
    go_on.set()
    opened = at_last(tab, answers)
    assert len(opened["map"]["panes"]) == 1
    assert "door-open, bundled clip" in opened["measured"]
    assert job.finished.wait(30)


def test_of_two_clips_that_are_chosen_one_after_the_other_only_the_second_is_shown(
    tab: AttentionTab,
) -> None:
    asked = Asked()
    source = ("bundled:door-open.mp4", None, 0.5)
    tab.keep_new(*source, False, asked)
    first = tab.open(*source, "tiny", False, asked)
    next(first)
    tab.keep_new(*source, False, asked)
    assert list(first) == []
    second = tab.open(*source, "tiny", False, asked)
    assert "door-open, bundled clip" in at_last(tab, second)["measured"]


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [((2, "1"), (2, "1")), ((2, "max"), (2, "max")), ((3, "1"), (1, "mean")),
     ((1, "3"), (1, "mean"))],
)  # fmt: skip
def test_a_head_that_is_chosen_while_a_clip_opens_is_shown_if_the_model_has_it(
    tab: AttentionTab, chosen: tuple[int, str], shown: tuple[int, str]
) -> None:
    asked, source = Asked(), ("bundled:door-open.mp4", None, 0.5)
    tab.keep_new(*source, False, asked)
    tab.choose_head(*chosen, asked)
    opened = at_last(tab, tab.open(*source, "tiny", False, asked))
    assert (opened["layer"]["value"], opened["head"]["value"]) == shown
    again = at_last(tab, tab.open(*source, "tiny", False, asked))
    assert (again["layer"]["value"], again["head"]["value"]) == (1, "mean"), "it was another clip's"
    tab.choose_head(*chosen, asked)  # of the open clip: the answer to it is a view
    last = at_last(tab, tab.open(*source, "tiny", False, asked))
    assert (last["layer"]["value"], last["head"]["value"]) == (1, "mean")


def test_a_view_that_comes_late_takes_the_place_of_nothing_newer(tab: AttentionTab) -> None:
    """Neither that of a newer view, nor that of a clip that was opened meanwhile."""
    asked, waits, go_on = Asked(), threading.Event(), threading.Event()
    blocks = choose(tab, block="1x8x16")

    def slow(job: Job) -> None:
        waits.set()
        go_on.wait(30)

    with ThreadPoolExecutor() as pool:
        tab.session.jobs.submit(slow)
        assert waits.wait(30)
        late = pool.submit(tab.show, *blocks, asked, SETTINGS)
        while not asked.views:
            waits.wait(0.01)
        other = choose(tab, block="1x8x16", layer=2, head="1")
        last = pool.submit(tab.show, *other, asked, SETTINGS)
        while asked.views < 2:
            waits.wait(0.01)
        go_on.set()
        nothing = {tab.page.place: gr.skip()}  # an empty answer would be an error
        assert late.result(60) == nothing
        newest = named(tab.page, last.result(60))
        assert (newest["map"]["layer"], newest["accepted"][2]) == (1, "1x8x16")
        assert "heads" in newest, "those of the blocks that were asked for first"

        opening = tab.open("bundled:door-open.mp4", None, 0.5, "tiny", False, asked)
        next(opening)
        assert tab.show(*blocks, asked, SETTINGS) == nothing, "the menus are still of another clip"
        now = asked.now()
        list(opening)
        assert asked.now() != now
        assert tab.page.map in tab.show(*blocks, asked, SETTINGS)


def test_a_clip_that_cannot_be_opened_leaves_the_reason_on_the_page(tab: AttentionTab) -> None:
    answers = tab.open("made:gone", None, 0.5, "tiny", False, Asked())
    cleared, refused = (named(tab.page, next(answers)) for _ in range(2))
    assert cleared["map"] is None
    assert "This clip was deleted." in refused["measured"]
    with pytest.raises(gr.Error, match="This clip was deleted"):
        next(answers)


def test_a_clip_of_another_visitor_opens_nothing(tab: AttentionTab) -> None:
    """It is offered all the same, as the gallery has it, also when its job is forgotten."""
    mine = make_clip(tab.session)
    theirs = make_clip(tab.session, seed=4)
    key = f"made:{mine.id}"
    updates = enter(tab, key, made=mine.id, newest=key, shown=(key, ""))
    assert "value" not in updates["clip"], "another may be chosen meanwhile"
    tab.session.jobs.forget(theirs.id)
    offered = dict(enter(tab, made=mine.id)["clip"]["choices"])
    [title] = [title for title, one in offered.items() if one == f"made:{theirs.id}"]
    assert title.startswith("door open, frame 1x16x16, seed 4, ")
    found = clips.find(tab.session, f"made:{theirs.id}", None, None)
    assert found.title in title
    assert len(found.frames_THWC) == 17


def test_the_page_is_sent_the_weights(tab: AttentionTab) -> None:
    updates = named(
        tab.page, tab.show(*choose(tab, layer=2, head="1", beside=True), Asked(), SETTINGS)
    )
    first, second = updates["map"]["panes"]
    assert (first["title"], second["title"]) == ("row 1x1x16", "token 1x1x1")
    clip = clips.find(tab.session, "bundled:door-open.mp4", "tiny", None)
    view = tab.views.open(clip, (1, 1, 16)).view
    sent = unpack(first["levels"], np.uint8).reshape(first["n"], first["n"])
    assert (sent == levels(view.map(1, 0))).all()
    assert first["walls"] == view.walls
    assert len(second["walls"]) == second["n"] + 1, "one token, one step of the stairs"
    rows = updates["look"]["rows"]
    look = view.look(1, 0, first["row"])
    np.testing.assert_allclose(unpack(rows[0]["weights"], np.float32), look.weights_thw.flat)
    assert [row["row"] for row in rows] == [first["row"], second["row"]]
    assert (updates["map"]["layer"], updates["map"]["head"]) == (1, 0)
    small = updates["heads"]
    thumbnails = unpack(small["levels"], np.uint8).reshape(2, 2, small["side"], small["side"])
    assert thumbnails[1, 0].max() == sent.max()


def test_ticks_say_where_latent_frames_and_rows_begin(tab: AttentionTab) -> None:
    pane = named(tab.page, tab.show(*choose(tab), Asked(), SETTINGS))["map"]["panes"][0]
    ticks = {(words, is_frame): at for at, words, is_frame in pane["ticks"]}
    assert ticks["t1", True] == 2
    assert ticks["t2", True] == 2 + 16 + 15 + 15 * 16
    assert pane["labels"][ticks["t2", True]] == "token (2, 1, 1)"
    assert pane["prefix"] == 2


def test_a_click_on_a_row_and_on_its_token_are_the_same(tab: AttentionTab) -> None:
    values = choose(tab)
    by_token = named(tab.page, tab.pick_query(*values, Asked(), {"pane": 0, "place": [1, 4, 7]}))
    assert by_token["place"] == 256 + 4 * 16 + 7
    row = by_token["look"]["rows"][0]
    assert row["made"] == (1, 4, 7)
    assert row["held"] == (1, 3, 7), "the row above, of which this one is the next block"
    assert "predicts the token at latent frame 2, row 5, column 8" in row["text"]
    by_row = named(tab.page, tab.pick_query(*values, Asked(), {"pane": 0, "row": row["row"]}))
    assert by_row["look"]["rows"] == by_token["look"]["rows"]
    with pytest.raises(gr.Error, match="predicts no token"):
        tab.pick_query(*values, Asked(), {"pane": 0, "row": 0})


def test_the_small_maps_are_sent_once(tab: AttentionTab) -> None:
    shown = tab.show(*choose(tab, layer=2, head="1"), Asked(), SETTINGS)
    assert "heads" not in named(tab.page, shown)


def test_opening_again_costs_no_forward(tab: AttentionTab) -> None:
    made = len(tab.session.jobs.finished())
    clip = clips.find(tab.session, "bundled:door-open.mp4", "tiny", None)
    first = tab.views.open(clip, (1, 1, 16))
    assert tab.views.open(clip, (1, 1, 16)) is first
    assert tab.views.open(clip, (1, 4, 16)) is not first
    assert len(tab.session.jobs.finished()) == made, "looking leaves nothing in the list of clips"


def test_a_clip_is_opened_anew_by_weights_that_were_replaced(assets: Path, tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    session = Session(folder.parent, "cpu", assets=assets)
    tab = build(session)
    clip = clips.find(session, "bundled:door-open.mp4", "tiny", None)
    before = tab.views.open(clip, (1, 1, 16))
    called = tab.attention(str(assets / "door-open.mp4"), "tiny")[2]
    file = folder / "model.safetensors"
    weights = load_file(file)
    other = tmp_path / "other.safetensors"
    save_file({name: weight * 1.5 for name, weight in weights.items()}, other)
    other.replace(file)
    assert tab.views.open(clip, (1, 1, 16)) is before, "the studio still has the earlier weights"
    session.forget_models()
    again = tab.attention(str(assets / "door-open.mp4"), "tiny")[2]
    assert called["measured_on"] != again["measured_on"]
    after = tab.views.open(clip, (1, 1, 16))
    assert after.weights != before.weights
    assert not np.array_equal(after.view.map(1, 0), before.view.map(1, 0))
    session.close()


def test_heads_beyond_those_of_the_model_are_not_named(
    tab: AttentionTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may have been measured with a larger model of the same name."""
    row = {"model": "tiny", "block": "1x1x16", "layer": 2, "head": 1, "stripes": 3.0}
    larger = row | {"layer": 9, "stripes": 0.0, "own block": 0.4}
    study = {
        "title": "Heads", "kind": "attention", "device": "one core", "weights": "tiny",
        "date": "2026-11-21", "command": "a", "rows": [row, larger],
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(study))
    monkeypatch.setattr(tab.session, "results", tmp_path)
    updates = enter(tab)
    assert updates["find 0"]["value"].startswith("Layer 2, head 1: vertical stripes")
    assert updates["find 1"] == updates["find 2"] == {"visible": False}


def test_a_full_disk_is_a_sentence(tab: AttentionTab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("app.attention.shown.tempfile.mkdtemp", refused)
    with pytest.raises(gr.Error, match="disk has no space left"):
        tab.make_files(*choose(tab), Asked())


def test_files_are_named_after_what_they_hold(tab: AttentionTab) -> None:
    updates = named(tab.page, tab.make_files(*choose(tab, head="max", block="1x4x16"), Asked()))
    for kind in ("png", "svg", "pdf", "npz"):
        assert Path(updates[kind]).name == f"attention_1x4x16_layer1_head-max.{kind}"
        assert Path(updates[kind]).is_file()
    with np.load(updates["npz"]) as kept:
        assert json.loads(str(kept["report"]))["block"] == "1x4x16"
        assert kept["weights_LL"].dtype == np.float32


def test_exports_make_way_for_newer_ones(
    tab: AttentionTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export() -> list[Path]:
        updates = named(tab.page, tab.make_files(*choose(tab), Asked()))
        return [Path(updates[kind]) for kind in ("png", "svg", "pdf", "npz")]

    before = export()
    monkeypatch.setattr(tab.session, "max_bytes", 0)
    after = export()
    assert [path.is_file() for path in (*before, *after)] == [False] * 4 + [True] * 4


def test_the_endpoint_looks_at_a_file(tab: AttentionTab, assets: Path) -> None:
    clip = str(assets / "door-open.mp4")
    png, npz, report = tab.attention(clip, "tiny", "door-open", "1x16x16", 2, "mean")
    assert Path(png).is_file()
    with np.load(npz) as kept:
        np.testing.assert_allclose(kept["weights_LL"].sum(1), 1, atol=1e-5)
    assert (report["layer"], report["head"], report["block"]) == (2, "mean", "1x16x16")
    with pytest.raises(gr.Error, match="no layer 3"):
        tab.attention(clip, "tiny", "door-open", "1x16x16", 3, "mean")


def test_without_clips_the_page_says_so(models: Path) -> None:
    session = Session(models, "cpu")
    tab = build(session)
    updates = enter(tab)
    assert NO_CLIP in updates["measured"]
    assert "value" not in updates["clip"]
    box = at_last(tab, tab.open(UPLOAD, None, 0.5, "tiny", False, Asked()))
    assert box["upload"] == box["crop"] == {"visible": True}
    assert NO_FILE in box["measured"]
    assert box["map"] is None
    session.close()


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"key": "made:gone"}, "This clip was deleted"),
        ({"key": UPLOAD}, "Choose a clip of your own"),
        ({"block": "1x3x16"}, "does not tile"),
        ({"model": "other"}, "no model 'other'"),
    ],
)
def test_refusals_are_one_sentence(tab: AttentionTab, other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(gr.Error, match=sentence):
        tab.make_files(*choose(tab, **other), Asked())


def test_a_clip_that_cannot_be_drawn_is_a_sentence_and_the_next_one_opens(
    tab: AttentionTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a single latent frame for a model that is given the first block."""

    def refused(_: Any) -> None:
        raise ValueError("this model is given the token")

    asked = Asked()
    monkeypatch.setattr(Shown, "looks", refused)
    answers = tab.open("bundled:door-open.mp4", None, 0.5, "tiny", False, asked)
    next(answers)
    said = named(tab.page, next(answers))["measured"]
    assert ">this model is given the token<" in said
    with pytest.raises(gr.Error) as error:
        next(answers)
    assert error.value.message == "this model is given the token"
    assert not asked.is_opening
    monkeypatch.undo()
    assert tab.page.map in tab.show(*choose(tab), asked, SETTINGS)


def test_a_refused_setting_is_set_back(tab: AttentionTab) -> None:
    updates = named(tab.page, tab.show(*choose(tab, block="1x3x16"), Asked(), SETTINGS))
    assert updates == {"beside": False, "action": "door-open", "block": "1x1x16"}


def test_each_latent_frame_is_shown_by_its_last_frame() -> None:
    assert [frame_of(t, 17, 5) for t in range(5)] == [0, 4, 8, 12, 16]
    assert frame_of(0, 1, 1) == 0
