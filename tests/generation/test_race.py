"""Both runners of a race do the same work as two plain generations, and every step is timed."""

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbp_core.cli.main import main
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.race import Lap, Race, RaceRequest, Runner, race
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.video import read_comment, read_video
from tests.support.models import build_pipeline, save_pipeline

SHAPES: tuple[Size3, Size3] = ((1, 4, 16), (1, 16, 16))


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return build_pipeline()


@dataclass
class Watched:
    result: Race
    laps: list[Lap]


@pytest.fixture(scope="module")
def watched(pipeline: VideoPipeline) -> Watched:
    """A race from one given frame."""
    laps: list[Lap] = []
    return Watched(race(pipeline, ask(frames_THWC=grey_frames(1)), laps.append), laps)


def ask(**changes: Any) -> RaceRequest:
    shapes = changes.pop("shapes", SHAPES)
    request = GenerateRequest(**{"sampling": SamplingConfig(seed=3)} | changes)
    return RaceRequest(shapes=shapes, request=request)


def grey_frames(count: int) -> Any:
    return np.full((count, 128, 128, 3), 90, np.uint8)


def test_both_make_what_a_plain_generation_makes(pipeline: VideoPipeline) -> None:
    frames = grey_frames(5)
    result = race(pipeline, ask(action="pan-left", frames_THWC=frames))
    for runner, shape in zip(result.runners, SHAPES, strict=True):
        sampling = SamplingConfig(seed=3, block_shape=shape)
        alone = pipeline.generate("pan-left", frames, sampling=sampling)
        np.testing.assert_array_equal(runner.generation.frames_THWC, alone.frames_THWC)
        assert runner.generation.manifest == alone.manifest
        assert runner.num_tokens == 3 * 256


def expect_times(runner: Runner, known: int, new: int) -> None:
    assert len(runner.frame_s) == 17
    assert runner.frame_s.count(0.0) == known
    assert runner.num_new_frames == new
    assert sorted(runner.elapsed_s) == list(runner.elapsed_s)
    assert runner.frame_s[-1] == runner.elapsed_s[-1] == runner.end_to_end_s
    steps = len(runner.elapsed_s)
    assert steps == len(runner.places) == len(runner.phases) == runner.generation.steps
    made = np.concatenate(runner.places)
    assert sorted(made) == list(range(1280 - len(made), 1280))
    timings = runner.generation.timings
    assert 0 < runner.sampling_s + timings["tokenize_s"] < runner.end_to_end_s
    assert timings["detokenize_s"] < runner.end_to_end_s


def test_every_step_and_frame_has_its_time(pipeline: VideoPipeline, watched: Watched) -> None:
    for runner in watched.result.runners:
        expect_times(runner, known=1, new=16)
    for runner in race(pipeline, ask(shapes=((1, 1, 16), (1, 4, 16)))).runners:
        expect_times(runner, known=0, new=17)


def test_ratios_are_of_the_first_over_the_second(watched: Watched) -> None:
    report = watched.result.report()
    first, second = report["runners"]
    assert (first["steps"], second["steps"]) == (16, 4)
    assert report["speed_up"]["steps"] == 4
    assert report["speed_up"]["sampling"] == first["sampling_s"] / second["sampling_s"]
    assert report["speed_up"]["end_to_end"] == first["end_to_end_s"] / second["end_to_end_s"]


def test_laps_tell_who_runs_and_the_warm_up_is_not_one(watched: Watched) -> None:
    warm = Lap(runner=0, phase="warm-up", step=0, num_steps=16, elapsed=0.0)
    assert watched.laps[0] == warm
    assert [(lap.runner, lap.step) for lap in watched.laps if lap.phase == "run"] == [
        *((0, step) for step in range(1, 17)),
        *((1, step) for step in range(1, 5)),
    ]


def test_rounds_take_turns_and_the_median_one_is_shown(pipeline: VideoPipeline) -> None:
    laps: list[Lap] = []
    result = race(pipeline, replace(ask(frames_THWC=grey_frames(1)), num_rounds=3), laps.append)
    turns = [(lap.round, lap.runner) for lap in laps if lap.phase == "warm-up"]
    assert turns == [(r, i) for r in range(3) for i in range(2)]
    ratios = [pair[0].end_to_end_s / pair[1].end_to_end_s for pair in result.rounds]
    assert result.speed_up()["end_to_end"] == sorted(ratios)[1]
    assert result.spread() == (min(ratios), max(ratios))
    frames = [pair[0].generation.frames_THWC for pair in result.rounds]
    assert all((one == frames[0]).all() for one in frames)
    assert [r["speed_up"] for r in result.report()["rounds"]] == ratios
    with pytest.raises(ValueError, match="must be odd"):
        replace(ask(), num_rounds=2)


def test_a_stop_ends_it_with_one_sentence(pipeline: VideoPipeline) -> None:
    stop = threading.Event()
    laps: list[Lap] = []

    def watch(lap: Lap) -> None:
        laps.append(lap)
        if lap.step == 4:
            stop.set()

    with pytest.raises(ValueError, match=r"Race stopped\. Both runs must finish to be compared"):
        race(pipeline, ask(frames_THWC=grey_frames(1)), watch, stop)
    assert laps[-1].step == 4


def test_what_cannot_race_is_refused(pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="two different ones"):
        ask(shapes=(SHAPES[0], SHAPES[0]))
    laps: list[Lap] = []
    with pytest.raises(ValueError, match="does not tile"):
        race(pipeline, ask(shapes=(SHAPES[0], (1, 3, 16))), laps.append)
    with pytest.raises(ValueError, match="1x1x16 only"):
        race(build_pipeline("hybrid"), ask(), laps.append)
    assert not laps, "both are checked before anything runs"


def compare(model: Path, out: Path, *options: str) -> int:
    start = ["--model", str(model), "--out-dir", str(out), "--action", "door-open", "--json"]
    return main(["compare", *start, *options])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models"))


def test_the_verb_writes_clips_and_figures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "race"
    picture = tmp_path / "grey.png"
    Image.fromarray(grey_frames(1)[0]).save(picture)
    options = ("--first-frame", str(picture), "--blocks", "1x4x16", "1x16x16", "--seed", "7")
    assert compare(model, out, *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads((out / "compare.json").read_text()) == report
    assert set(report["speed_up"]) == {"steps", "sampling", "end_to_end"}
    for runner, block in zip(report["runners"], ("1x4x16", "1x16x16"), strict=True):
        assert runner["block"] == block
        assert runner["out"] == str(out / f"{block}.mp4")
        assert len(read_video(out / f"{block}.mp4")[0]) == 17
        assert json.loads(read_comment(out / f"{block}.mp4") or "") == runner["manifest"]
        assert runner["manifest"]["sampling"]["seed"] == 7
        assert len(runner["timings"]["per_step_s"]) == runner["steps"]


def test_clips_of_one_frame_can_race(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have no room for the known frame from which a warm-up starts."""
    out = tmp_path / "race"
    assert compare(model, out, "--frames", "1", "--blocks", "1x4x16", "1x16x16") == 0
    runners = json.loads(capsys.readouterr().out)["runners"]
    assert [runner["new_frames"] for runner in runners] == [1, 1]
    assert len(read_video(out / "1x16x16.mp4")[0]) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--blocks", "1x1x16", "1x1x16"], "two different ones"),
        (["--blocks", "1x1x1"], "expected 2 arguments"),
        (["--blocks", "1x1x1", "row"], "three numbers"),
        (["--blocks", "1x1x1", "1x3x16"], "does not tile"),
        (["--action", "dor-open"], "nearest are door-open"),
        (["--scale", "9"], "--scale"),
    ],
)
def test_the_verb_refuses_in_one_sentence(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    out = tmp_path / "race"
    assert compare(model, out, *options) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert sentence in captured.err
    assert not out.exists()
