import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from nbp_core.data.clips import BATCHES, Split, load_clips, open_clips, validation_keys
from nbp_core.data.metaworld import METAWORLD_ACTIONS, add_clip, render
from nbp_core.data.sources import folder_fingerprint
from nbp_core.media import ffmpeg
from nbp_core.media.files import MediaError
from nbp_core.media.video import crop_resize, read_window, write_video
from tests.support.charts import encode, numbered

SPLITS: tuple[Split, Split] = ("train", "val")


def moving(shade: int, count: int = 17) -> np.ndarray:
    """Frames that brighten, so that their order can be told."""
    levels = shade + 5 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 128, 128, 3)).copy()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 1)):
        for index, action in enumerate(("door-open", "drawer-close")):
            with tarfile.open(tmp_path / f"{split}-{index:02d}.tar", "w") as tar:
                for number in range(count):
                    label = {"action": action, "look": "stock", "class": index}
                    frames = moving(40 * index + 20 * number)
                    add_clip(tar, f"{action}_{split}_{number:04d}", frames, label)
    return tmp_path


def test_shards_give_their_clips_with_action_and_look(shards: Path) -> None:
    records = list(open_clips(shards, "train"))
    assert [r.action for r in records] == ["door-open"] * 3 + ["drawer-close"] * 3
    assert {r.look for r in records} == {"stock"}
    assert len({r.key for r in records}) == 6
    for record, shade in zip(records, (0, 20, 40, 40, 60, 80), strict=True):
        assert record.frames_THWC.shape == (17, 128, 128, 3)
        assert np.abs(record.frames_THWC.astype(int) - moving(shade)).max() <= 4
    assert len(list(open_clips(shards, "val"))) == 2
    assert len(list(open_clips(shards, "train", limit_per_action=2))) == 4


def test_a_damaged_clip_is_left_out(shards: Path) -> None:
    with tarfile.open(shards / "train-00.tar", "a") as tar:
        for suffix, data in ((".mp4", b"no video"), (".json", json.dumps({}).encode())):
            member = tarfile.TarInfo(f"broken{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert len(list(open_clips(shards, "train"))) == 6


def test_other_files_of_shards_are_counted_and_named_in_one_line(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for shard in ("train-00.tar", "train-01.tar"):
        with tarfile.open(shards / shard, "a") as tar:
            for name in ("a.webm", "a.json", "b.webm", "c.MP4", "._d", "e.txt"):
                tar.addfile(tarfile.TarInfo(f"{shard[:-4]}/{name}"))
            folder = tarfile.TarInfo("folder.webm")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    assert len(list(open_clips(shards, "train"))) == 6
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith("6 files of ")
    assert "neither a clip (.mp4) nor a label (.json): a.webm, b.webm, c.MP4, a.webm" in said
    caplog.clear()
    assert len(list(open_clips(shards, "val"))) == 2
    assert not caplog.records


@pytest.mark.parametrize("target", ["nowhere", "odd"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("suffix", [".mp4", ".json"])
def test_a_member_of_a_shard_that_leads_nowhere_is_left_out(
    shards: Path, caplog: pytest.LogCaptureFixture, kind: bytes, suffix: str, target: str
) -> None:
    with tarfile.open(shards / "train-00.tar", "a") as tar:
        for other in (".mp4", ".json"):
            member = tarfile.TarInfo(f"odd{other}")
            if other == suffix:
                member.type, member.linkname = kind, f"{target}{other}"
            tar.addfile(member)
    assert len(list(open_clips(shards, "train"))) == 6
    assert caplog.messages[0].startswith("odd.mp4 of train-00.tar left out: ")


def test_a_link_in_a_shard_is_read_as_the_file_it_leads_to(shards: Path) -> None:
    with tarfile.open(shards / "train-00.tar", "a") as tar:
        for kind in (".mp4", ".json"):
            member = tarfile.TarInfo(f"twin{kind}")
            member.type, member.linkname = tarfile.LNKTYPE, f"door-open_train_0000{kind}"
            tar.addfile(member)
    clips = {clip.key: clip.frames_THWC for clip in open_clips(shards, "train")}
    assert len(clips) == 7
    np.testing.assert_array_equal(clips["twin"], clips["door-open_train_0000"])


def test_a_shard_that_was_cut_is_refused(shards: Path) -> None:
    path = shards / "train-00.tar"
    with tarfile.open(path) as tar:
        inside = tar.getmembers()[-2].offset_data + 100
    path.write_bytes(path.read_bytes()[:inside])
    with pytest.raises(MediaError, match=r"^train-00\.tar is not a tar of clips, or is damaged\.$"):
        list(open_clips(shards, "train"))


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train-00.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(MediaError, match=r"^train-00\.tar is not a tar of clips"):
        list(open_clips(tmp_path, "train"))


def test_a_folder_of_videos_is_split_by_name(tmp_path: Path) -> None:
    for action in ("wave", "jump"):
        (tmp_path / action).mkdir()
        for number in range(15):
            clip = moving(10, 40)[:, :64, :96]
            write_video(tmp_path / action / f"{number}.mp4", clip)
    train, val = (list(open_clips(tmp_path, split)) for split in ("train", "val"))
    assert len(train) + len(val) == 30
    assert not {r.key for r in train} & {r.key for r in val}
    assert {r.key for r in val} == validation_keys(r.key for r in train + val)
    assert {r.action for r in train} == {"wave", "jump"}
    frames = train[0].frames_THWC
    assert frames.shape == (17, 128, 128, 3)
    brightness = frames.mean((1, 2, 3))
    assert (np.diff(brightness) > 0).all()


def test_frames_are_decoded_once(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    clips = load_clips(shards, "train", cache)
    assert clips.frames_NTHWC.shape == (6, 17, 128, 128, 3)
    expected = list(open_clips(shards, "train"))
    assert np.array_equal(clips.frames_NTHWC, np.stack([r.frames_THWC for r in expected]))
    assert clips.actions == [record.action for record in expected]
    assert clips.looks == [record.look for record in expected]
    written = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    again = load_clips(shards, "train", cache)
    assert np.array_equal(again.frames_NTHWC, clips.frames_NTHWC)
    assert again.actions == clips.actions
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == written


def test_frames_are_decoded_anew_when_their_folder_changes(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_clips(shards, "train", cache)
    (shards / "train-01.tar").unlink()
    assert len(load_clips(shards, "train", cache)) == 3
    assert len(list(cache.glob("*.npy"))) == 1


def test_every_action_stands_in_both_splits() -> None:
    keys = [f"wave/{n}.mp4" for n in range(200)]
    many = validation_keys(keys)
    assert 8 <= len(many) <= 35
    others = [f"jump/{n}.mp4" for n in range(2)]
    assert {key for key in validation_keys(keys + others) if key.startswith("wave")} == many
    few = [key for key in keys if key not in many][:4]
    assert len(validation_keys(few)) == 1
    chosen = sorted(many)[:3]
    assert len(validation_keys(chosen)) == 2  # the hash chose all three
    for seed in range(50):
        pairs = [f"{action}/{seed}-{n}.mp4" for action in ("a", "b", "c") for n in range(2)]
        assert len(validation_keys(pairs)) == 3


def test_an_action_of_one_clip_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("wave/0.mp4", "wave/1.mp4", "jump/0.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, moving(10))
    for split in SPLITS:
        with pytest.raises(MediaError, match=r"^action 'jump' has a single clip; "):
            list(open_clips(tmp_path, split))


@pytest.mark.parametrize(("split", "kind"), [("train", "training"), ("val", "validation")])
def test_only_damaged_clips_is_a_sentence(tmp_path: Path, split: Split, kind: str) -> None:
    (tmp_path / "wave").mkdir()
    for number in range(3):
        (tmp_path / "wave" / f"{number}.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=f"has no {kind} clip that can be read"):
        list(open_clips(tmp_path, split))


def test_a_folder_is_known_by_what_it_holds_not_by_its_place(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path.parent / f"{tmp_path.name}-copy"
    shutil.copytree(shards, copy)
    assert folder_fingerprint(copy) == folder_fingerprint(shards)
    (copy / "notes.txt").write_text("mine")
    assert folder_fingerprint(copy) == folder_fingerprint(shards)
    path = copy / "val-00.tar"
    path.write_bytes(path.read_bytes() + bytes(512))
    assert folder_fingerprint(copy) != folder_fingerprint(shards)
    with pytest.raises(MediaError, match="there is no folder 'nowhere'"):
        folder_fingerprint(tmp_path / "nowhere")


def test_frames_whose_labels_are_empty_are_decoded_again(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_clips(shards, "val", cache)
    (labels,) = cache.glob("*.json")
    labels.write_text("")
    assert load_clips(shards, "val", cache).actions == ["door-open", "drawer-close"]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_folders_without_clips_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match=name):
        load_clips(tmp_path / name, "train", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_metaworld_has_fifty_actions_and_refuses_others(tmp_path: Path) -> None:
    assert len(set(METAWORLD_ACTIONS)) == 50
    assert METAWORLD_ACTIONS.index("door-open") == 15
    with pytest.raises(ValueError, match="unknown action 'fly'"):
        render(tmp_path, "train", 1, 0, ["fly"])


def spoil(folder: Path) -> int:
    """Files of a folder of clips that are none; how many."""
    frames = moving(10)
    write_video(folder / "cut.mp4", frames)
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "._a.mp4").write_bytes(b"\0\5\x16\7" + bytes(80))
    (folder / "text.webm").write_text("no video")
    (folder / "folder.mp4").mkdir()
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    encode(folder / "still.mp4", frames[:1], "-c:v libx264 -pix_fmt yuv420p")
    Image.fromarray(frames[0]).save(folder / "still.webp")
    return 8


def test_files_that_are_no_clips_are_left_out_with_a_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    action = folder / os.fsdecode(b"sprung-\xe9")
    action.mkdir(parents=True)
    for number in range(25):
        write_video(action / os.fsdecode(b"cl\xe9ment %d.mp4" % number), moving(number))
    num_bad = spoil(action)
    splits = [list(open_clips(folder, split)) for split in ("train", "val")]
    lines = [record.getMessage() for record in caplog.records]
    reasons = [line for line in lines if "a clip of" in line]
    counts = [int(line.split()[0]) for line in lines if line.endswith("of clips left out")]
    assert len(reasons) == num_bad == sum(counts)
    assert any("text.webm is not a clip that can be read" in line for line in reasons)
    assert sum(map(len, splits)) == 25
    assert all(line.isprintable() for line in lines)
    clips = load_clips(folder, "train", tmp_path / "cache")
    assert (len(clips), set(clips.actions)) == (len(splits[0]), {"sprung-\ufffd"})


def test_files_that_are_not_even_opened_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", moving(number))
    (tmp_path / "a" / "deeper").mkdir(parents=True)
    for place in ("a/1.mp4", "a/2.mp4", "a/deeper/3.mp4"):
        shutil.copy(tmp_path / "0.mp4", tmp_path / place)
    for name in ("a/b.rm", "a/c.WTV", "d.swf", "a/.DS_Store", "a/2.json", "a/Thumbs.db", "x.txt"):
        (tmp_path / name).write_bytes(b"")
    assert sum(len(list(open_clips(tmp_path, split))) for split in ("train", "val")) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"3 files of {tmp_path.name} skipped, because they have no suffix of a video that can be "
        "read: b.rm, c.WTV, d.swf",
        f"5 files of {tmp_path.name} skipped, because they do not lie in the sub-folder of an "
        "action: 0.mp4, 1.mp4, 2.mp4, 3.mp4, 3.mp4",
    ]


def test_a_folder_of_files_that_are_not_opened_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").mkdir()
    for number in range(7):
        (tmp_path / "a" / f"{number}.rm").touch()
    with pytest.raises(MediaError, match="nor sub-folders with videos"):
        list(open_clips(tmp_path, "train"))
    (record,) = caplog.records
    assert record.getMessage().endswith(": 0.rm, 1.rm, 2.rm, 3.rm, 4.rm and 2 more")


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.nut", "-c:v ffv1"), ("a.divx", "-c:v mpeg4 -q:v 2 -f avi"),
     ("a.qt", "-c:v libx264 -pix_fmt yuv420p -f mov"), ("a.m1v", "-c:v mpeg1video -r 25"),
     ("a.ogm", "-c:v libtheora -q:v 10 -f ogg"), ("a.f4v", "-c:v libx264 -pix_fmt yuv420p"),
     ("a.hevc", "-c:v libx265 -x265-params log-level=0")],
)  # fmt: skip
def test_every_suffix_of_a_video_that_is_read_is_trained_on(
    tmp_path: Path, name: str, options: str
) -> None:
    (tmp_path / "a").mkdir()
    for number in range(2):
        encode(tmp_path / "a" / f"{number}{name}", moving(number), options)
    assert sum(len(list(open_clips(tmp_path, split))) for split in ("train", "val")) == 2


def test_a_clip_of_a_shard_that_cannot_be_read_is_named(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(shards / "train-00.tar", "a") as tar:
        label = json.dumps({"action": "door-open"}).encode()
        for name, data in {
            "e.mp4": b"",
            "e.json": label,
            "t.mp4": b"text",
            "t.json": label,
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert len(list(open_clips(shards, "train"))) == 6
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == [
        "e.mp4 of train-00.tar left out",
        "t.mp4 of train-00.tar left out",
        "2 of the 5 clips of train-00.tar left out",
    ]


def test_clips_of_other_lengths_and_rates_are_taken_by_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    encode(tmp_path / "a" / "fast.mkv", numbered(50), "-c:v ffv1", "24")
    encode(tmp_path / "a" / "long.mkv", numbered(27), "-c:v ffv1", "8")
    records = list(open_clips(tmp_path, "train")) + list(open_clips(tmp_path, "val"))
    found = {record.key: record.frames_THWC for record in records}
    # The number stands at the left, which the middle square cuts in half.
    greys = {key: frames[:, 64, 3].mean(-1) for key, frames in found.items()}
    assert np.allclose(np.diff(greys["a/fast.mkv"]), 12, atol=5)
    assert np.allclose(greys["a/long.mkv"], 40 + 4 * np.arange(5, 22), atol=2)


def test_a_limit_counts_the_clips_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    spoil(tmp_path / "a")
    for number in range(12):
        write_video(tmp_path / "a" / f"{number}.mp4", moving(10))
    assert len(list(open_clips(tmp_path, "train", limit_per_action=3))) == 3


def test_clips_decoded_together_equal_clips_decoded_alone(tmp_path: Path) -> None:
    folder = tmp_path / "wave"
    folder.mkdir()
    options = "-c:v libx264 -pix_fmt yuv444p"
    paths = [
        encode(folder / f"{name}.mp4", numbered(count), options, rate)
        for name, count, rate in (
            ("a", 17, "8"), ("b", 9, "8"), ("c", 60, "30"), ("e", 17, "8"), ("f", 40, "8"),
        )
    ]  # fmt: skip
    (folder / "d.mp4").write_bytes(paths[0].read_bytes()[:900])
    found = {Path(record.key).name: record for s in SPLITS for record in open_clips(tmp_path, s)}
    assert sorted(found) == [path.name for path in paths]
    for path in paths:
        expected = crop_resize(read_window(path, 17), 128)
        assert np.array_equal(found[path.name].frames_THWC, expected)


def test_a_folder_of_short_clips_takes_few_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        (tmp_path / "wave").mkdir(exist_ok=True)
        write_video(tmp_path / "wave" / f"{number}.mp4", moving(number))
    run = Mock(wraps=ffmpeg.run_logged)
    monkeypatch.setattr(ffmpeg, "run_logged", run)
    num_clips = sum(1 for split in SPLITS for _ in open_clips(tmp_path, split))
    assert num_clips == 12
    assert run.call_count <= 4


def test_a_cache_among_other_files_removes_none_of_them(shards: Path) -> None:
    """Where the shards themselves lie beside it, they stay."""
    (shards / "val-notes.json").write_text("mine")
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    for split in SPLITS:
        load_clips(shards, split, shards)
        load_clips(shards, split, shards)
    assert {name: (shards / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "of other clips"])
def test_decoded_frames_that_are_damaged_are_decoded_again(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    whole = np.array(load_clips(shards, "val", tmp_path / "cache").frames_NTHWC)
    (cached,) = (tmp_path / "cache").glob("*.npy")
    if harm == "missing":
        cached.unlink()
    elif harm == "of other clips":
        np.save(cached, whole[:1])
    else:
        cached.write_bytes(cached.read_bytes()[: 1000 if harm == "cut" else 0])
    assert np.array_equal(load_clips(shards, "val", tmp_path / "cache").frames_NTHWC, whole)
    assert "the clips are decoded again" in caplog.text


@pytest.mark.parametrize(
    "label",
    [
        b"[" * 100_000,
        b'{"action": 1' + b"0" * 5000 + b"}",
        b'{"action": "\\ud800"}',
        b"[]",
        b"\xff",
    ],
)
def test_a_label_that_python_cannot_read_leaves_its_clip_out(
    shards: Path, caplog: pytest.LogCaptureFixture, label: bytes
) -> None:
    with tarfile.open(shards / "train-00.tar", "a") as tar:
        member = tarfile.TarInfo("door-open_train_0001.json")
        member.size = len(label)
        tar.addfile(member, io.BytesIO(label))
    keys = [clip.key for clip in open_clips(shards, "train")]
    assert len(keys) == 5
    assert "door-open_train_0001.mp4 of train-00.tar left out" in caplog.text


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_compressed_shard_that_was_cut_is_refused(shards: Path, share: float) -> None:
    path = shards / "train-00.tar"
    whole = gzip.compress(path.read_bytes())
    path.write_bytes(whole)
    assert len(list(open_clips(shards, "train"))) == 6
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MediaError, match=r"^train-00\.tar is not a tar of clips, or is damaged\.$"):
        list(open_clips(shards, "train"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_shard_that_is_a_named_pipe_is_not_waited_for(shards: Path) -> None:
    os.mkfifo(shards / "train-02.tar")
    with pytest.raises(MediaError, match=r"^train-02\.tar is not a tar of clips"):
        list(open_clips(shards, "train"))


def test_actions_that_are_links_change_what_a_folder_is_known_by(tmp_path: Path) -> None:
    real, folder = tmp_path / "real", tmp_path / "clips"
    real.mkdir()
    folder.mkdir()
    (folder / "wave").symlink_to(real)
    (real / "0.mp4").write_bytes(b"a clip")
    before = folder_fingerprint(folder)
    (real / "0.mp4").write_bytes(b"another clip")
    assert folder_fingerprint(folder) != before


def test_clips_of_both_splits_need_no_splitting(tmp_path: Path) -> None:
    """What a model made may be one clip of an action."""
    for action in ("wave", "jump"):
        (tmp_path / action).mkdir()
        write_video(tmp_path / action / "0.mp4", moving(10))
    assert {clip.action for clip in open_clips(tmp_path, None)} == {"wave", "jump"}


@pytest.mark.parametrize("split", SPLITS)
def test_shards_of_one_split_are_all_clips_there_are(shards: Path, split: Split) -> None:
    for path in shards.glob("*.tar"):
        if not path.name.startswith(split):
            path.unlink()
    assert len(list(open_clips(shards, None))) == {"train": 6, "val": 2}[split]


def limit_commands(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Commands longer than `most` letters are refused, as Windows does; the lengths of all."""
    lengths: list[int] = []
    start = subprocess.Popen

    def refusing(command: list[str | bytes], **named: Any) -> Any:
        lengths.append(len(subprocess.list2cmdline(map(os.fsdecode, command))))
        if lengths[-1] > most:
            raise FileNotFoundError(206, "The filename or extension is too long")
        return start(command, **named)

    monkeypatch.setattr(subprocess, "Popen", refusing)
    return lengths


def many_videos(folder: Path, count: int) -> Path:
    write_video(folder / "one.mp4", moving(20))
    (folder / "clips" / "wave").mkdir(parents=True)
    for number in range(count):
        shutil.copy(folder / "one.mp4", folder / "clips" / "wave" / f"{number:02d}.mp4")
    return folder / "clips"


def test_commands_for_many_clips_are_short_enough_for_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many_videos(tmp_path, 40)
    monkeypatch.setattr("nbp_core.data.clips._BATCH", BATCHES["nt"])
    lengths = limit_commands(monkeypatch, 32_767)
    assert len(list(open_clips(folder, None))) == 40
    assert len(lengths) == 3
    assert max(lengths) < 24_000  # leaves room for longer paths and other filters


def test_clips_are_read_one_by_one_where_the_command_for_many_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many_videos(tmp_path, 4)
    lengths = limit_commands(monkeypatch, 2_500)
    assert len(list(open_clips(folder, None))) == 4
    assert len([length for length in lengths if length > 2_500]) == 1
