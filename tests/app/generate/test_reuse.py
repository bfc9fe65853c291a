"""Clips that exist: listed, opened, gone on from, restored; and a run held and stepped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.clips import run
from app.clips.exports import Files, write_files
from app.clips.form import FIELDS
from app.clips.kept import find_clip, keep
from app.clips.odds import Odds
from app.clips.request import read_start
from app.clips.run import Outcome
from app.generate.gallery import FEW
from app.generate.page import GeneratePage
from app.generate.tab import GenerateTab
from app.jobs import Job, JobState
from app.parts.follow import Follower
from app.parts.status import status
from app.session import Session
from nbp_core.media.files import replacing
from nbp_core.media.video import write_gif, write_video
from tests.support.engine import VALUES, FakePipeline, add_model, fake_session, small_clips


def built(session: Session) -> GenerateTab:
    with gr.Blocks() as blocks:
        page = GeneratePage(
            session,
            blocks,
            gr.Dropdown(["fake"], value="fake"),
            gr.HTML(),
            Follower(session.jobs, "test", 0.5),
            Odds(session),
        )
        return GenerateTab(session, page)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[GenerateTab]:
    session, pipeline = fake_session(tmp_path / "models", step_s=0)
    tab = built(session)
    with small_clips():
        yield tab
    pipeline.step_s = 0
    session.close()


def engine(tab: GenerateTab) -> FakePipeline:
    pipeline: Any = tab.session.pipeline("fake")
    assert isinstance(pipeline, FakePipeline)
    return pipeline


def begin(tab: GenerateTab, **values: Any) -> Job:
    updates = tab.begin(*{**VALUES, **values}.values())
    job = tab.session.jobs.get(updates[tab.page.follower.job_id])
    assert job is not None
    return job


def make(tab: GenerateTab, **values: Any) -> Job:
    job = begin(tab, **values)
    assert job.finished.wait(60)
    return job


def press(tab: GenerateTab, act: str, clip_id: Any, current: str = "") -> dict[Any, Any]:
    return tab.reuse.act(current, FEW, gr.EventData(None, {"act": act, "id": clip_id}))


def shown_ids(updates: dict[Any, Any], tab: GenerateTab) -> list[str]:
    return [card["id"] for card in updates[tab.page.past.gallery]["cards"]]


def test_the_card_of_the_opened_clip_is_shown(tab: GenerateTab) -> None:
    """Also one beyond the first few, which was chosen after "Show all"."""
    clip = make(tab)
    with small_clips():
        for _ in range(2):
            make(tab)
    past = tab.page.past
    cards = past.updates(clip.id, limit=1)[past.gallery]["cards"]
    assert [card["id"] for card in cards][-1] == clip.id
    assert len(past.updates(None, limit=1)[past.gallery]["cards"]) == 1


def test_past_clips_are_listed_the_newest_first(tab: GenerateTab) -> None:
    page = tab.page
    assert tab.come_back("", ("", 0))[page.past.box].visible is False
    first, second = make(tab), make(tab, seed=8, action="")
    tab.session.jobs.submit(lambda job: "not a clip").finished.wait(10)
    updates = tab.come_back("", ("", 0))
    assert shown_ids(updates, tab) == [second.id, first.id]
    assert updates[page.past.box].visible is True
    newest, oldest = updates[page.past.gallery]["cards"]
    assert (oldest["title"], newest["title"]) == ("door open", "no action")
    assert oldest["details"][0] == "fake, row 1x1x16, 17 frames"
    assert oldest["details"][1].startswith("from an action, seed 7, temperature 1, ")
    assert newest["film"].startswith("data:image/jpeg;base64,")
    assert "2 clips, " in updates[page.past.disk]
    assert " of 1,000 MB used" in updates[page.past.disk]


def test_other_jobs_push_no_clip_out_of_the_gallery(tab: GenerateTab) -> None:
    job = make(tab)
    for _ in range(60):
        tab.session.jobs.submit(lambda job: "a race").finished.wait(10)
    assert tab.session.jobs.view(job.id) is None
    assert shown_ids(tab.page.past.updates(), tab) == [job.id]
    assert press(tab, "open", job.id)[tab.page.follower.job_id] == job.id


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notes that a page has shown."""
    shown: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: shown.append(text))
    return shown


def test_a_past_clip_is_opened_again(tab: GenerateTab, notes: list[str]) -> None:
    first, second = make(tab), make(tab, seed=8)
    updates = press(tab, "open", first.id, current=second.id)
    assert updates[tab.page.follower.job_id] == first.id
    assert updates[tab.page.preview]["job"] == first.id
    assert updates[tab.page.past.gallery]["opened"] == first.id
    for nonsense in ("../..", 5, None, ""):
        updates = press(tab, "open", nonsense, current=second.id)
        assert shown_ids(updates, tab) == [second.id, first.id]
        assert tab.page.follower.job_id not in updates
        assert notes.pop() == "This clip was deleted."


def test_a_clip_whose_files_made_way_is_opened_from_the_gallery(tab: GenerateTab) -> None:
    job = make(tab)
    shutil.rmtree(job.result.clip.parent)
    shown = press(tab, "open", job.id)
    assert shown[tab.page.preview]["kind"] == "clip"
    assert job.result.clip.is_file()
    shutil.rmtree(job.result.clip.parent)
    assert press(tab, "use", job.id)[tab.page.seed] == 7
    shutil.rmtree(job.result.clip.parent)
    tab.reuse.go_on_from_frame(job.id, *VALUES.values())


def test_a_clip_just_opened_is_not_the_next_to_make_way(tab: GenerateTab) -> None:
    job, session = make(tab), tab.session
    session.max_clips = 2
    (clip,) = session.library.clips()
    for path in (*clip.folder.iterdir(), clip.folder):
        os.utime(path, (0, 0))
    session.jobs.forget(job.id)
    make(tab, seed=8)
    opened = find_clip(session, job.id)
    assert opened is not None
    session.new_output("next")
    assert opened.result.clip.is_file()


def test_clips_outlive_the_studio_with_all_that_was_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first, _ = fake_session(tmp_path / "models", step_s=0, clips=kept)
    with small_clips():
        made = make(built(first), seed=5)
    first.close()
    second, _ = fake_session(tmp_path / "models", step_s=0, clips=kept)
    tab = built(second)
    assert second.jobs.view(made.id) is None
    updates = tab.come_back(made.id, ("", 0))
    assert shown_ids(updates, tab) == [made.id]
    view = second.jobs.view(made.id)
    assert view is not None
    assert view.result.manifest == made.result.manifest
    assert view.result.timings == made.result.timings
    assert (view.result.last.tokens_thw == made.result.last.tokens_thw).all()
    assert view.result.clip.is_relative_to(second.outputs), "not the user's own folder"
    assert view.result.clip.read_bytes() == next(kept.glob("*/*seed5.mp4")).read_bytes()
    assert press(tab, "use", made.id)[tab.page.seed] == 5
    assert press(tab, "delete", made.id)[tab.page.past.box].visible is False
    assert list(kept.iterdir()) == []
    second.close()


def test_settings_of_a_clip_are_filled_in_with_their_true_note(
    tab: GenerateTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda message, **_: told.append(message))
    Image.new("RGB", (50, 40), "teal").save(tmp_path / "start.png")
    job = make(tab, start="frame", picture=str(tmp_path / "start.png"))
    press(tab, "use", job.id)
    assert told.pop() == "All settings are restored."
    (tmp_path / "start.png").unlink()
    assert press(tab, "use", job.id)[tab.page.restored] == ""
    assert "Choose the same picture again." in told.pop()
    monkeypatch.setattr(engine(tab), "actions", ("door-close",))
    with pytest.raises(gr.Error, match="has an action that the model 'fake' lacks"):
        press(tab, "use", job.id)
    assert told == []


def test_pinned_clips_stand_first_and_never_make_way(tab: GenerateTab) -> None:
    first, second = make(tab), make(tab, seed=8)
    assert shown_ids(press(tab, "pin", first.id), tab) == [first.id, second.id]
    tab.session.library.max_bytes = 1
    third = make(tab, seed=9)
    assert shown_ids(tab.page.past.updates(), tab) == [first.id, third.id]
    assert shown_ids(press(tab, "unpin", first.id), tab) == [third.id, first.id]


def test_a_card_whose_clip_has_gone_from_the_disk_is_taken_away(
    tab: GenerateTab, notes: list[str]
) -> None:
    job, other = make(tab), make(tab, seed=8)
    (folder,) = (clip.folder for clip in tab.session.library.clips() if clip.id == job.id)
    shutil.rmtree(folder)
    for act in ("open", "use", "pin", "unpin", "delete"):
        assert shown_ids(press(tab, act, job.id, current=other.id), tab) == [other.id]
        assert notes.pop() == "This clip was deleted."


@pytest.mark.parametrize("act", ["pin", "delete"])
def test_a_folder_of_clips_that_cannot_be_changed_is_a_sentence(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    job = make(tab)
    monkeypatch.setattr(Path, "touch", refused)
    monkeypatch.setattr(os, "unlink", refused)
    why = "The folder of clips cannot be changed: permission denied."
    with pytest.raises(gr.Error, match=why):
        press(tab, act, job.id)
    monkeypatch.undo()
    assert shown_ids(tab.page.past.updates(), tab) == [job.id]
    assert tab.session.jobs.view(job.id) is not None


@pytest.mark.parametrize("kind", ["clip", "strip", "settings", "last_frames"])
def test_a_card_says_that_files_of_its_clip_were_deleted(tab: GenerateTab, kind: str) -> None:
    job, other = make(tab), make(tab, seed=8)
    (clip,) = (clip for clip in tab.session.library.clips() if clip.id == job.id)
    (clip.folder / clip.record["files"][kind]).unlink()
    (clip.folder / "film.jpg").unlink()
    cards = {card["id"]: card for card in press(tab, "pin", job.id)[tab.page.past.gallery]["cards"]}
    assert cards[job.id]["fault"] == "Some files of this clip were deleted."
    assert (cards[other.id]["fault"], cards[job.id]["film"]) == ("", "")
    tab.session.jobs.forget(job.id)
    shutil.rmtree(tab.session.outputs)
    with pytest.raises(gr.Error, match="This clip is damaged"):
        press(tab, "open", job.id)
    assert shown_ids(press(tab, "delete", job.id), tab) == [other.id]


def test_a_damaged_clip_is_left_out_or_said_to_be_damaged(tab: GenerateTab) -> None:
    job, other, third = make(tab), make(tab, seed=8), make(tab, seed=9)
    library = tab.session.library
    clips = {clip.id: clip.folder for clip in library.clips()}
    (clips[other.id] / "clip.json").write_text("[" * 100_000)
    record = json.loads((clips[third.id] / "clip.json").read_text())
    record["files"]["settings"] = "../../secret.json"
    (clips[third.id] / "clip.json").write_text(json.dumps(record))
    assert shown_ids(tab.page.past.updates(), tab) == [third.id, job.id]
    tab.session.jobs.forget(third.id)
    with pytest.raises(gr.Error, match="This clip is damaged"):
        press(tab, "open", third.id)


@pytest.mark.parametrize(
    ("changed", "is_listed"),
    [
        ({"sampling": {}}, True),
        ({"context": {}}, False),
        ({"context": "none"}, False),
        ({"context": {"num_frames": [5]}}, False),
    ],
)
def test_what_a_record_lacks_keeps_no_page_from_its_gallery(
    tab: GenerateTab, changed: dict[str, Any], is_listed: bool
) -> None:
    job, other = make(tab), make(tab, seed=8)
    (path,) = (
        clip.folder / "clip.json" for clip in tab.session.library.clips() if clip.id == job.id
    )
    record = json.loads(path.read_text())
    record["manifest"] |= changed
    path.write_text(json.dumps(record))
    assert shown_ids(tab.page.past.updates(), tab) == [other.id] + [job.id] * is_listed


def test_a_kept_clip_whose_tokens_are_torn_is_said_to_be_damaged(tab: GenerateTab) -> None:
    job = make(tab)
    (clip,) = tab.session.library.clips()
    path = clip.folder / "shown.npz"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        begin = archive.infolist()[0].header_offset
    data[begin + 60 : begin + 200] = b"\xff" * 140  # no stream that zlib can read
    path.write_bytes(data)
    tab.session.jobs.forget(job.id)
    with pytest.raises(gr.Error, match="This clip is damaged"):
        press(tab, "open", job.id)
    tab.come_back(job.id, ("", 0))


def test_long_names_lose_no_clip(tab: GenerateTab, monkeypatch: pytest.MonkeyPatch) -> None:
    action = "put the red block into the box at the left of the table, " * 5
    monkeypatch.setattr(FakePipeline, "actions", (action,))
    add_model(tab.session.models, 70 * "\N{CJK UNIFIED IDEOGRAPH-5B57}")
    (name,) = set(tab.session.model_names()) - {"fake"}
    job = make(tab, action=action, model=name)
    assert job.state is JobState.DONE, job.error
    assert status(tab.session.jobs.view(job.id)) == '<p role="status" class="">Done.</p>'
    assert job.result.clip.name.endswith("_1x1x16_seed7.mp4")


def test_a_clip_that_cannot_be_kept_is_made_all_the_same(tab: GenerateTab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tab.session.library.folder = tmp_path / "file"
    view = tab.session.jobs.view(make(tab).id)
    assert view is not None
    assert view.state is JobState.DONE
    assert "The gallery cannot keep the clip: " in status(view)
    assert view.result.clip.is_file()


def test_a_clip_is_not_lost_where_older_ones_fill_the_disk(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = make(tab)
    is_full = older.result.clip.is_file
    refused = errno.EACCES

    def written(folder: Path, *made: Any) -> Files:
        if is_full():
            with replacing(folder / "a.mp4"):
                raise OSError(refused, os.strerror(refused))
        return write_files(folder, *made)

    monkeypatch.setattr(run, "write_files", written)
    failed = make(tab)
    assert failed.error == "a.mp4 cannot be written: permission denied."
    assert older.result.clip.is_file(), "not for an error that room would not mend"
    refused = errno.ENOSPC
    newer = make(tab)
    assert newer.state is JobState.DONE
    assert newer.result.clip.is_file()
    opened = find_clip(tab.session, older.id)
    assert opened is not None
    assert opened.result.clip.is_file(), "from the gallery"
    is_full = lambda: True  # noqa: E731
    failed = make(tab)
    assert failed.state is JobState.FAILED
    assert failed.error == "a.mp4 cannot be written: no space left on device."


def test_a_full_disk_takes_no_clip_before_the_gallery_has_it(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def kept_late(session: Session, *made: Any) -> str:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            session.write_output("another page's", refused)
        return keep(session, *made)

    monkeypatch.setattr(run, "keep", kept_late)
    job = make(tab)
    assert (job.error, job.result.not_kept) == ("", "")
    assert job.result.clip.is_file()


def test_a_kept_clip_is_not_called_damaged_where_the_disk_is_full(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = make(tab)
    tab.session.jobs.forget(view.id)

    def full(*values: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(ValueError, match="has no space left"):
        find_clip(tab.session, view.id)


def test_a_kept_clip_that_several_pages_open_at_once_is_copied_once(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, copied = make(tab), list[Path]()
    tab.session.jobs.forget(made.id)
    usual = shutil.copytree

    def slow(source: Path, target: Path, **options: Any) -> Path:
        time.sleep(0.2)
        copied.append(source)
        return usual(source, target, **options)

    monkeypatch.setattr(shutil, "copytree", slow)
    with ThreadPoolExecutor() as pages:
        opened = list(pages.map(find_clip, [tab.session] * 3, [made.id] * 3))
    assert [view is not None and view.result.clip.is_file() for view in opened] == [True] * 3
    assert len(copied) == 1


def test_why_a_clip_cannot_be_kept_is_one_short_line(
    tab: GenerateTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(source: Path, target: Path, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    tab.session.library.folder = tmp_path / "clips"
    assert make(tab).state is JobState.DONE
    assert caplog.messages == [
        f"a clip could not be kept in {tmp_path / 'clips'}: no space left on device"
    ]
    assert not list((tmp_path / "clips").iterdir())


def test_a_running_page_opens_no_other_clip(tab: GenerateTab) -> None:
    past = make(tab)
    engine(tab).step_s = 0.02
    running = begin(tab)
    with pytest.raises(gr.Error, match="A run is in progress"):
        press(tab, "open", past.id, current=running.id)
    tab.session.jobs.stop(running.id)


def ended(tab: GenerateTab, updates: dict[Any, Any]) -> Outcome:
    """What came of the run that the page was made to follow."""
    job = tab.session.jobs.get(updates[tab.page.follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    outcome: Outcome = job.result
    return outcome


def test_going_on_from_the_end_of_a_clip(tab: GenerateTab) -> None:
    job, reuse = make(tab), tab.reuse
    updates = reuse.go_on_from_frame(job.id, *VALUES.values())
    assert updates[tab.page.start] == "frame"
    picture = updates[tab.page.picture]
    assert ended(tab, updates).num_frames == 17
    frame = read_start("frame", picture, None)
    assert frame is not None
    assert frame.shape == (1, 128, 128, 3)
    updates = reuse.go_on_from_clip(job.id, *VALUES.values())
    assert updates[tab.page.start] == "clip"
    clip = updates[tab.page.clip]
    assert ended(tab, updates).num_frames == 17
    frames = read_start("clip", None, clip)
    assert frames is not None
    assert abs(frames[-1].astype(int) - frame[0]).mean() < 3
    longer = make(tab, start="clip", clip=clip, num_frames=33)
    assert longer.result.num_frames == 33
    with pytest.raises(gr.Error, match="This clip was deleted"):
        reuse.go_on_from_clip("unknown")


def test_what_an_old_clip_is_continued_from_counts_as_just_uploaded(tab: GenerateTab) -> None:
    job = make(tab)
    os.utime(job.result.last_frame, (0, 0))
    updates = tab.reuse.go_on_from_frame(job.id, *VALUES.values())
    picture = Path(updates[tab.page.picture])
    assert picture.is_relative_to(tab.session.uploads)
    assert time.time() - picture.stat().st_mtime < 60
    ended(tab, updates)


def test_a_clip_of_one_frame_cannot_be_gone_on_from_by_five(tab: GenerateTab) -> None:
    engine(tab).step_s = 0.01
    job = begin(tab)
    while job.progress is None or job.progress.num_frames < 1:
        assert not job.finished.wait(0.005)
    tab.session.jobs.stop(job.id)
    assert job.finished.wait(60)
    with pytest.raises(gr.Error, match="fewer than five frames"):
        tab.reuse.go_on_from_clip(job.id)


def test_a_dropped_file_fills_the_page(tab: GenerateTab, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), "teal").save(tmp_path / "start.png")
    picture = str(tmp_path / "start.png")
    job = make(tab, start="frame", picture=picture, block="1x16x16", seed=99, num_frames=33)
    page = tab.page
    updates = tab.reuse.restore(str(job.result.clip))
    assert (updates[page.start].value, updates[page.picture]) == ("frame", picture)
    assert (updates[page.seed], updates[page.num_frames]) == (99, 33)
    assert updates[page.block].value == "1x16x16"
    assert updates[page.action].value == "door-open"
    assert "All settings are restored." in updates[page.restored]
    write_gif(tmp_path / "other.gif", job.request.frames_THWC)
    with pytest.raises(gr.Error, match="has no settings"):
        tab.reuse.restore(str(tmp_path / "other.gif"))


def test_pause_step_and_resume(tab: GenerateTab) -> None:
    page = tab.page
    engine(tab).step_s = 0.01
    job = begin(tab)
    while job.progress is None:
        assert not job.finished.wait(0.005)
    assert tab.page.follower.poll(job.id, ("", 0))[page.step].interactive is False
    tab.pause(job.id)
    time.sleep(0.3)
    held = job.progress.step
    updates = tab.page.follower.poll(job.id, ("", 0))
    assert (updates[page.hold].value, updates[page.step].interactive) == ("Resume", True)
    assert f"Paused at step {held} of 80" in updates[page.status]
    tab.take_step(job.id)
    time.sleep(0.3)
    assert job.progress.step == held + 1
    tab.pause(job.id)
    assert job.finished.wait(60)
    assert job.state is JobState.DONE
    assert job.paused_s > 0.4
    assert job.result.seconds < job.result.last.elapsed + 2
    assert job.result.last.elapsed < 80 * 0.01 * 10
    assert tab.page.follower.poll(job.id, ("", 0))[page.hold].value == "Pause"


SETTINGS = tuple(name for name in FIELDS if name not in ("picture", "clip"))


def shown_settings(tab: GenerateTab, updates: dict[Any, Any]) -> dict[str, Any]:
    """What the controls hold after these updates, by the names of their fields."""
    filled = {name: updates[getattr(tab.page, name)] for name in SETTINGS}
    return {name: getattr(update, "value", update) for name, update in filled.items()}


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["a job", "of the library"])
@pytest.mark.parametrize(
    ("chosen", "crop"),
    [
        ({"start": "frame", "block": "1x4x16", "seed": 5, "guidance": 2.0}, 0.25),
        ({"start": "frame", "action": ""}, 0.5),
        ({"start": "clip", "num_frames": 33}, 1.0),
        ({"action": "", "actions": "door-open*4 drawer-close*8"}, 0.5),
        ({"temperature": 0.3}, 0.5),
    ],
    ids=["picture", "no action", "clip", "actions", "action"],
)
def test_a_reloaded_page_has_the_settings_of_its_run(
    tab: GenerateTab, tmp_path: Path, chosen: dict[str, Any], crop: float, is_forgotten: bool
) -> None:
    """Also where the job is forgotten and its clip comes from the library."""
    Image.new("RGB", (50, 40), "teal").save(tmp_path / "start.png")
    write_video(tmp_path / "start.mp4", np.zeros((5, 32, 64, 3), np.uint8))
    files = {"picture": str(tmp_path / "start.png"), "clip": str(tmp_path / "start.mp4")}
    want = {**VALUES, **files, **chosen, "crop": crop}
    job = make(tab, **want)
    assert job.state is JobState.DONE, job.error
    if is_forgotten:
        tab.session.jobs.forget(job.id)
    shown = shown_settings(tab, tab.come_back(job.id, ("", 0)))
    assert shown == {name: want[name] for name in SETTINGS}
    again = make(tab, **{**want, **shown})
    assert again.error == ""
    assert again.result.manifest == job.result.manifest
    assert tab.page.seed not in tab.come_back("gone", ("", 0))
