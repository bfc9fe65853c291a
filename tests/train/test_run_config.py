import json
import os
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbp_core.checkpoint import save_model
from nbp_core.cli.main import main
from nbp_core.config.presets import ELASTIC_SIZES, TOKENIZER_PRESETS, elastic
from nbp_core.data.arm_keys import PLAYER_KEYS
from nbp_core.data.camera_moves import CAMERA_MOVES
from nbp_core.data.metaworld import add_clip
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.media.video import write_video
from nbp_core.train.alone import alone
from nbp_core.train.everything import PLAN_MAY_CHANGE, Plan
from nbp_core.train.run_config import (
    RUN_FILE,
    SOURCES_FILE,
    TokenizerRun,
    TransformerRun,
    TransformerSizes,
    keep_run,
    keep_sources,
    read_over,
    read_run,
)
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import (
    ACTIONS,
    CODES,
    build_tokenizer,
    build_transformer,
    tokenizer_config,
    transformer_config,
)

SMALL_RUN: dict[str, Any] = {
    "model": {"name": "small-test", "num_layers": 1, "width": 32, "num_heads": 2},
    "recipe": {"shapes": [[1, 1, 16]], "shape_weights": [1.0], "num_validation_clips": 1},
    "train": {"steps": 2, "lr": 1e-3, "batch_size": 1},
}


def write(path: Path, settings: object) -> Path:
    path.write_text(json.dumps(settings))
    return path


def test_what_a_file_leaves_out_is_the_default(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a.json", SMALL_RUN), TransformerRun())
    assert run.model == TransformerSizes(name="small-test", num_layers=1, width=32, num_heads=2)
    assert run.recipe.shapes == ((1, 1, 16),)
    assert (run.train.steps, run.train.minutes, run.train.muon_lr) == (2, None, 2e-3)
    assert TransformerRun.from_dict(json.loads(json.dumps(run.to_dict()))) == run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"stepz": 2}}, "unknown setting 'stepz'"),
        ({"train": {"steps": 2, "minutes": 1}}, "either"),
        ({"recipe": {"shapes": [[1, 1, 16]]}}, "1 block shapes need as many weights, not 6"),
        ([1], "does not hold the settings"),
        ({"train": None}, "a.json: train must be an object of settings, not null"),
        ({"train": 5}, "a.json: train must be an object of settings, not 5"),
        ({"train": {"steps": "2"}}, 'a.json: train.steps must be a whole number, not "2"'),
        ({"train": {"steps": 0}}, "a.json: train: steps must be at least 1, not 0"),
        ({"train": {"steps": 2.5}}, "a.json: train.steps must be a whole number, not 2.5"),
        ({"train": {"minutes": 0}}, "a.json: train: minutes must be a finite number above 0"),
        ({"train": {"minutes": True}}, "a.json: train.minutes must be a number, not true"),
        ({"train": {"steps": 2, "lr": None}}, "a.json: train.lr must be a number, not null"),
        ({"train": {"steps": 2, "batch_size": 0}}, "batch_size must be at least 1, not 0"),
        ({"recipe": {"late_lengths": [0, 0]}}, "late_lengths must be numbers of at least 0"),
        ({"model": {"width": "192"}}, 'a.json: model.width must be a whole number, not "192"'),
        ({"train": {"steps": 10**400}}, r"steps must be at most 1,000,000,000, not 10{36}\.\.\.$"),
        ({"train": {"steps": 2, "batch_size": 10**400}}, "batch_size must be at most"),
        ({"recipe": {"source_shares": [["clips", 1], ["arm", 1]]}},
         "source_shares names 'arm', not one of 'clips', 'camera-keys', 'look-around', 'arm-k"),
        ({"photo_clips": 10**12}, "photo_clips must be at most 1,000,000,000"),
        ({"recipe": {"shape_weights": [1e308] * 6}}, "shape_weights must be numbers of at least"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, settings: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_run(write(tmp_path / "a.json", settings), TransformerRun())
    assert "\n" not in str(caught.value)


def test_a_tokenizer_has_no_arithmetic_budget(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="minutes or in steps"):
        read_run(write(tmp_path / "a.json", {"train": {"tflop": 1}}), TokenizerRun())


def test_our_sizes_are_the_presets() -> None:
    for name, (layers, width) in ELASTIC_SIZES.items():
        expected = elastic(name, layers, width, CODES, ACTIONS)
        assert TransformerSizes().sized(name).config(CODES, ACTIONS) == expected
    assert TokenizerRun().model == TOKENIZER_PRESETS["nano"]


def test_a_run_folder_takes_one_run_only_but_a_longer_budget(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a.json", SMALL_RUN), TransformerRun())
    keep_run(run, tmp_path / "run")
    more_steps = {**SMALL_RUN, "train": {**SMALL_RUN["train"], "steps": 4}}
    longer = read_run(write(tmp_path / "b.json", more_steps), TransformerRun())
    keep_run(longer, tmp_path / "run")
    assert read_run(tmp_path / "run" / RUN_FILE, TransformerRun()) == longer
    with pytest.raises(ValueError, match=r"another model\.name"):
        keep_run(TransformerRun(), tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"  \n", b"{", b"[1]", b"null", b"\xff"])
def test_a_torn_list_of_sources_says_how_to_resume(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clips").mkdir()
    run_folder = tmp_path / "run"
    folders = {"clips": tmp_path / "clips"}
    keep_sources(folders, run_folder, has_begun=False)
    (run_folder / SOURCES_FILE).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^the training data of run folder 'run' is not"
    ) as caught:
        keep_sources(folders, run_folder, has_begun=True)
    said = str(caught.value)
    assert said.endswith("; delete sources.json to resume with the data of this command")
    assert said.count("sources.json ") == 2
    (run_folder / SOURCES_FILE).unlink()
    keep_sources(folders, run_folder, has_begun=True)
    keep_sources(folders, run_folder, has_begun=True)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for action in ("wave", "jump"):
        (tmp_path / "clips" / action).mkdir(parents=True)
        for number in range(2):
            colour = rng.integers(0, 256, 3, dtype=np.uint8)
            frames = np.broadcast_to(colour, (17, 128, 128, 3))
            write_video(tmp_path / "clips" / action / f"{number}.mp4", frames)
    return tmp_path / "clips"


def test_a_run_is_repeated_from_its_own_config(clips: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    options = ["--clips", str(clips), "--tokenizer", str(tmp_path / "nano")]

    def train(config: Path, run: str, *more: str) -> list[float]:
        arguments = ["--config", str(config), "--run", str(tmp_path / run), *options, *more]
        assert main(["train-transformer", *arguments]) == 0
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    losses = train(write(tmp_path / "a.json", SMALL_RUN), "one", "--seed", "7")
    assert len(losses) == 2
    assert train(tmp_path / "one" / RUN_FILE, "two") == losses
    assert train(tmp_path / "one" / RUN_FILE, "three", "--seed", "8") != losses


def test_a_budget_is_asked_for(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--clips", str(clips), "--run", str(tmp_path / "run")]
    assert main(["train-tokenizer", *options]) == 2
    assert capsys.readouterr().err == "give a budget: --minutes or --steps\n"


def test_a_run_learns_keys_from_episodes_photographs_and_panoramas(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    rng = np.random.default_rng(0)
    for folder, size in (("photos", (300, 300)), ("panoramas", (512, 256))):
        (tmp_path / folder).mkdir()
        picture = rng.integers(0, 255, (*size[::-1], 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / folder / "a.png")
    (tmp_path / "episodes").mkdir()
    label = {"look": "stock", "keys": ["up"] * 3, "grip": [1] * 3}
    for split in ("train", "val"):
        with tarfile.open(tmp_path / "episodes" / f"{split}-0000.tar", "w") as tar:
            add_clip(tar, "a", rng.integers(0, 255, (13, 128, 128, 3)).astype(np.uint8), label)
    config = {
        **SMALL_RUN,
        "model": {**SMALL_RUN["model"], "frame_conditions": True, "window": 4},
        "key_clips": 4,
        "photo_clips": 0,
    }
    sources = [("--photos", "photos"), ("--panoramas", "panoramas"), ("--arm-keys", "episodes")]
    options = ["--clips", str(clips), "--tokenizer", str(tmp_path / "nano")]
    for option, folder in sources:
        options += [option, str(tmp_path / folder)]
    arguments = ["--config", str(write(tmp_path / "keys.json", config)), *options]
    assert main(["train-transformer", "--run", str(tmp_path / "run"), *arguments]) == 0
    model = BlockTransformer.from_pretrained(tmp_path / "run" / "model").config
    assert model.keys == (*PLAYER_KEYS, "still")
    assert set(CAMERA_MOVES) <= set(model.actions)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {f"val_{name}" for name in ("arm-keys", "camera-keys", "look-around")} <= set(last)
    arguments = ["--config", str(write(tmp_path / "old.json", SMALL_RUN)), *options]
    assert main(["train-transformer", "--run", str(tmp_path / "other"), *arguments]) == 2
    assert "need a model with frame_conditions" in capsys.readouterr().err


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b'\xef\xbb\xbf{"train":{"steps":2}}')
    assert read_run(path, TransformerRun()).train.steps == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "0"], "steps must be at least 1, not 0\n"),
        (["--minutes", "0"], "minutes must be a finite number above 0, not 0\n"),
        (["--minutes", "nan"], "minutes must be a finite number above 0, not nan\n"),
        (["--steps", "2", "--batch-size", "0"], "batch_size must be at least 1, not 0\n"),
        (["--steps", "2", "--seed", "-1"], "seed must be 0 to"),
        (["--steps", "2", "--clips", "nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_wrong_options_are_one_sentence(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    common = ["--clips", str(clips), "--run", str(tmp_path / "run")]
    assert main(["train-tokenizer", *common, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_empty_run_file_is_named(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a.json", SMALL_RUN), TransformerRun())
    keep_run(run, tmp_path / "run")
    (tmp_path / "run" / RUN_FILE).write_text("")
    with pytest.raises(ValueError, match=r"run folder 'run' cannot be read: run.json is empty"):
        keep_run(run, tmp_path / "run")


def train_small(tmp_path: Path, folder: Path, *more: str) -> int:
    """One or more steps of SMALL_RUN over a folder of clips, in tmp_path/run."""
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    config = write(tmp_path / "a.json", SMALL_RUN)
    run = ["--config", str(config), "--run", str(tmp_path / "run"), "--clips", str(folder)]
    return main(["train-transformer", *run, "--tokenizer", str(tmp_path / "nano"), *more])


def test_the_command_of_a_finished_run_says_so(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path, clips) == 0
    assert "is finished" not in capsys.readouterr().err
    assert train_small(tmp_path, clips) == 0
    sentence = f"{tmp_path / 'run'} is finished at step 2; a larger --steps or --minutes continues"
    said = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert said[-1] == f"{sentence} it"
    assert train_small(tmp_path, clips, "--steps", "3") == 0
    assert "is finished" not in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_two_runs_at_once_do_not_share_a_folder(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path, clips) == 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    with alone(tmp_path / "run"):
        assert train_small(tmp_path, clips, "--steps", "3") == 2
    sentence = "another process trains in run folder 'run': wait for its end, or use another run"
    assert capsys.readouterr().err == f"{sentence} folder\n"
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert train_small(tmp_path, clips, "--steps", "3") == 0


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"grid": [5, 8, 8], "block_shape": [1, 1, 8]},
         "the tokenizer cuts a clip into a grid of 5x16x16 tokens, and the model has one of 5x8x8: "
         "set model.grid and model.block_shape, and recipe.shapes with their shape_weights, in "
         "--config"),
        ({"width": 33}, "33"),
        ({}, "block shape 1x3x16 does not tile the 5x16x16 grid"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_before_clips_are_encoded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Any, sentence: str
) -> None:
    settings = {**SMALL_RUN, "model": {**SMALL_RUN["model"], **model}}
    if not model:
        settings["recipe"] = {"shapes": [[1, 3, 16]], "shape_weights": [1.0]}
    config = str(write(tmp_path / "b.json", settings))
    assert train_small(tmp_path, clips, "--config", config) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_weight_for_a_look_that_no_clip_has_names_its_option(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path, clips, "--stock-weight", "2") == 2
    sentence = "--stock-weight: none of the clips has the look 'stock'\n"
    assert capsys.readouterr().err.endswith(sentence)
    # The refused settings bind no later run, which finds the clips encoded.
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"tokens"}
    assert train_small(tmp_path, clips) == 0
    assert "encoding" not in capsys.readouterr().err


def test_a_tokenizer_whose_latent_frames_are_no_keys_is_refused_at_once(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = replace(tokenizer_config(), strides=((2, 2, 2), (1, 1, 1)))
    monkeypatch.setattr("tests.support.models.tokenizer_config", lambda: halves)
    model = {**SMALL_RUN["model"], "frame_conditions": True, "window": 8, "grid": [9, 16, 16]}
    config = str(write(tmp_path / "b.json", {**SMALL_RUN, "model": model}))
    assert train_small(tmp_path, clips, "--config", config, "--arm-keys", str(clips)) == 2
    sentence = "a key lasts 4 frames, and a latent frame of the tokenizer 2:"
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--clips", "nowhere"], "there is no folder 'nowhere'"),
        (["--clips", "."], "has neither train-*.tar shards nor sub-folders with videos"),
        (["--start-from", "nowhere"], "nowhere"),
        (
            ["--prompts", "."],
            "--prompts and a model whose conditions are class prompts go together",
        ),
        (["--panoramas", "nowhere"], "need a model with frame_conditions"),
    ],
)
def test_a_refused_run_leaves_nothing(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    options = [str(tmp_path / "empty") if option == "." else option for option in options]
    assert train_small(tmp_path, clips, *options) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "encoding" not in error or "--clips" in options
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train-tokenizer", "train-classifier"])
def test_a_batch_that_cannot_be_shared_is_refused_before_clips_are_decoded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    options = ["--clips", str(clips), "--run", str(tmp_path / "run"), "--steps", "1"]
    assert main([verb, *options, "--batch-size", "3", "--accumulate", "2"]) == 2
    sentence = "a batch of 3 clips cannot be cut into 2 equal parts (1 process, 2 parts each)\n"
    assert capsys.readouterr().err == sentence
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named_before_clips_are_decoded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbp_core.train.losses.perceptual.PACKAGE", "no_such_package")
    file = {"recipe": {"perceptual_weight": 0.1}, "train": {"steps": 1}}
    options = ["--clips", str(clips), "--run", str(tmp_path / "run")]
    options += ["--config", str(write(tmp_path / "a.json", file))]
    assert main(["train-tokenizer", *options]) == 2
    assert capsys.readouterr().err.startswith("the perceptual loss needs one more package: ")
    assert not (tmp_path / "run").exists()


def test_first_weights_that_do_not_fit_are_refused_before_clips_are_encoded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = transformer_config(grid=(5, 16, 16))
    start = replace(start, name="start", frame_conditions=True)
    weights = build_transformer(start).state_dict()
    save_model(tmp_path / "start", "transformer", start, weights)
    assert train_small(tmp_path, clips, "--start-from", str(tmp_path / "start")) == 2
    sentence = "small-test cannot start from start: its frame_conditions differs\n"
    assert capsys.readouterr().err == sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train-tokenizer", "train-classifier", "train-all"])
def test_a_missing_split_is_said_before_the_other_is_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "train-00.tar", "w") as tar:
        add_clip(tar, "a", np.zeros((17, 128, 128, 3), np.uint8), {"action": "wave"})
    options = ["--clips", str(tmp_path / "shards"), "--run", str(tmp_path / "run")]
    assert main([verb, *options, "--minutes", "1"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "shards has train-*.tar shards, but no val-*.tar."
    assert not (tmp_path / "run").exists()


def test_class_prompts_are_looked_for_before_clips_are_encoded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {**SMALL_RUN["model"], "layout": "hybrid", "conditions": "prompts", "rope": False}
    config = str(write(tmp_path / "b.json", {**SMALL_RUN, "model": {**model, "aimed": False}}))
    for options in ([], ["--prompts", str(clips)]):
        assert train_small(tmp_path, clips, "--config", config, *options) == 2
        error = capsys.readouterr().err
        assert ("need LLaMA-2's tokenizer.json" if options else "--prompts and") in error
        assert error.count("\n") == 1


def test_single_frames_are_checked_before_clips_are_encoded_unless_looks_decide() -> None:
    config = TransformerSizes().config(CODES, ())
    some = (0.5, 0.0, 0.0, 0.0, 0.5)
    recipe = TransformerRecipe(
        shapes=((2, 1, 8),), shape_weights=(1.0,), early_lengths=some, late_lengths=some
    )
    with pytest.raises(ValueError, match="block shape 2x1x8 does not tile the 1x16x16 grid"):
        recipe.check_blocks(config, 5)
    replace(recipe, given_looks=("stock",)).check_blocks(config, 5)
    whole = (0.0, 0.0, 0.0, 0.0, 1.0)
    replace(recipe, early_lengths=whole, late_lengths=whole).check_blocks(config, 5)


def test_blocks_of_a_plan_are_checked_when_it_is_read(tmp_path: Path) -> None:
    recipe = {"shapes": [[1, 3, 16]], "shape_weights": [1.0]}
    plan = write(tmp_path / "plan.json", {"transformer_recipe": recipe})
    with pytest.raises(ValueError, match=r"^plan.json: block shape 1x3x16 does not tile"):
        read_over(plan, Plan())


def test_other_clips_on_resume_are_refused_by_name(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path, clips, "--steps", "1") == 0
    moved = clips.rename(tmp_path / "moved")
    assert train_small(tmp_path, moved, "--steps", "2") == 0
    assert train_small(tmp_path, clips, "--steps", "3") == 2
    assert "there is no folder 'clips'" in capsys.readouterr().err
    (moved / "wave" / "0.mp4").write_bytes((moved / "jump" / "0.mp4").read_bytes())
    assert train_small(tmp_path, moved, "--steps", "3") == 2
    sentence = "run folder 'run' was trained on other data than --clips names now"
    assert sentence in capsys.readouterr().err


def test_tokens_are_of_the_present_clips(clips: Path, tmp_path: Path) -> None:
    """Clips that change before the first checkpoint are encoded again."""
    labels = tmp_path / "run" / "tokens" / "train" / "labels.json"
    for actions in ({"wave", "jump"}, {"wave", "leap"}):
        assert train_small(tmp_path, clips) == 0
        assert set(json.loads(labels.read_text())["actions"]) == actions
        (tmp_path / "run" / "checkpoint.pt").unlink()
        shutil.rmtree(tmp_path / "run" / "model")
        if (clips / "jump").is_dir():
            (clips / "jump").rename(clips / "leap")


@pytest.mark.parametrize("text", ['{"train": {"lr": 1, "lr": 2}}', '{"train": {}, "train": 1}'])
def test_a_setting_that_is_there_twice_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    name = "lr" if "lr" in text else "train"
    with pytest.raises(ValueError, match=f'^a.json has "{name}" twice in one object$'):
        read_run(tmp_path / "a.json", TransformerRun())


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"crop": 60}, "num_frames 9 and crop 60 do not fit the model: frame sides must be mult"),
        ({"num_frames": 8}, "num_frames 8 and crop 64 do not fit the model: a clip must have 1 +"),
        ({"early_frames": 2}, "early_frames 2 and crop 64 do not fit the model: a clip must have"),
    ],
)
def test_crops_that_do_not_fit_the_tokenizer_are_refused(
    tmp_path: Path, recipe: dict[str, int], sentence: str
) -> None:
    path = write(tmp_path / "a.json", {"train": {"steps": 1}, "recipe": recipe})
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_run(path, TokenizerRun())


def test_another_tokenizer_on_resume_is_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path, clips, "--steps", "1") == 0
    other = build_tokenizer(1)
    save_model(tmp_path / "other", "tokenizer", other.config, other.state_dict())
    named = "--steps", "2", "--tokenizer", str(tmp_path / "other")
    assert train_small(tmp_path, clips, *named) == 2
    assert "trained on other data than --tokenizer names now" in capsys.readouterr().err
    sources = tmp_path / "run" / SOURCES_FILE
    known = json.loads(sources.read_text())
    del known["tokenizer"]
    sources.write_text(json.dumps(known))  # as an earlier version left it
    assert train_small(tmp_path, clips, "--steps", "2") == 0
    assert json.loads(sources.read_text()).keys() == {"clips", "tokenizer"}


def test_a_run_may_go_without_camera_keys(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    model = {**SMALL_RUN["model"], "frame_conditions": True, "window": 4}
    config = {**SMALL_RUN, "model": model, "key_clips": 0, "photo_clips": 0}
    options = ["--config", str(write(tmp_path / "keys.json", config)), "--clips", str(clips)]
    options += ["--photos", str(tmp_path / "photos"), "--run", str(tmp_path / "run")]
    assert main(["train-transformer", *options, "--tokenizer", str(tmp_path / "nano")]) == 0


def test_a_classifier_is_resumed_with_its_own_settings(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["train-classifier", "--clips", str(clips), "--run", str(tmp_path / "run")]
    assert main([*options, "--steps", "1", "--batch-size", "2"]) == 0
    assert main([*options, "--steps", "2", "--batch-size", "2", "--seed", "3"]) == 2
    sentence = "run holds a run with another train.seed: use another run folder\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert main([*options, "--steps", "2", "--batch-size", "2"]) == 0


def test_a_run_folder_may_have_any_name(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / os.fsdecode(b"r\xffn")
    options = ["--clips", str(clips), "--run", str(run), "--steps", "1", "--batch-size", "2"]
    assert main(["train-classifier", *options]) == 0
    assert ActionClassifier.from_pretrained(run / "model").config.actions == ("jump", "wave")


def test_a_plan_may_change_its_budgets_only(tmp_path: Path) -> None:
    plan = Plan()
    keep_run(plan, tmp_path, "--plan", PLAN_MAY_CHANGE)
    keep_run(replace(plan, transformer_shares=(0.2, 0.2)), tmp_path, "--plan", PLAN_MAY_CHANGE)
    with pytest.raises(
        ValueError, match=r"another tokenizer_lr: .* continue this run with --plan "
    ):
        keep_run(replace(plan, tokenizer_lr=1.0), tmp_path, "--plan", PLAN_MAY_CHANGE)


@pytest.fixture
def is_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run stops when its settings are written, before its clips are looked for."""

    def stop(*folders: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nbp_core.cli.train.keep_sources", stop)


@pytest.mark.usefixtures("is_stopped_early")
def test_a_named_size_overrides_the_config_file(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    file = {**SMALL_RUN, "model": {**SMALL_RUN["model"], "tied_head": True}}
    options = ["--config", str(write(tmp_path / "a.json", file)), "--run", str(tmp_path / "run")]
    options += ["--tokenizer", str(tmp_path / "nano"), "--size", "small"]
    assert main(["train-transformer", *options, "--clips", str(tmp_path)]) == 130
    model = TransformerRun.read(tmp_path / "run" / RUN_FILE).model
    assert model == TransformerSizes(
        name="small", num_layers=8, width=256, num_heads=4, tied_head=True
    )


@pytest.mark.usefixtures("is_stopped_early")
def test_the_weight_of_the_stock_look_leaves_those_of_other_looks(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    looks = {"look_weights": [["stock", 2.0], ["arm-stock", 3.0]]}
    file = {**SMALL_RUN, "recipe": {**SMALL_RUN["recipe"], **looks}}
    options = ["--config", str(write(tmp_path / "a.json", file)), "--run", str(tmp_path / "run")]
    options += ["--tokenizer", str(tmp_path / "nano"), "--stock-weight", "5"]
    assert main(["train-transformer", *options, "--clips", str(tmp_path)]) == 130
    recipe = TransformerRun.read(tmp_path / "run" / RUN_FILE).recipe
    assert recipe.look_weights == (("stock", 5.0), ("arm-stock", 3.0))


@pytest.mark.usefixtures("is_stopped_early")
def test_a_named_preset_overrides_the_config_file(tmp_path: Path) -> None:
    file = {"model": {"name": "other", "patch": 8}, "train": {"steps": 1}}
    options = ["--config", str(write(tmp_path / "a.json", file)), "--run", str(tmp_path / "run")]
    options += ["--clips", str(tmp_path), "--preset", "nano", "--name", "mine"]
    assert main(["train-tokenizer", *options]) == 130
    model = TokenizerRun.read(tmp_path / "run" / RUN_FILE).model
    assert model == replace(TOKENIZER_PRESETS["nano"], name="mine")
