import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core import VideoPipeline
from nbp_core.config.presets import ELASTIC_SIZES, TOKENIZER_PRESETS
from nbp_core.media.pictures import read_image
from nbp_core.media.video import write_video
from nbp_core.train.everything import SAMPLE_ACTIONS, Plan, Sources, sample_actions, train_all
from nbp_core.train.tokenizer import TokenizerRecipe
from nbp_core.train.transformer.recipe import TransformerRecipe
from tests.support.models import tokenizer_config

PLAN = Plan(
    tokenizer_batch=1,
    transformer_batch=1,
    tokenizer_recipe=TokenizerRecipe(num_validation_clips=1),
    transformer_recipe=TransformerRecipe(num_validation_clips=1),
    tokenizer_photos=2,
    token_photos=40,
    transformers=("tiny",),
    transformer_shares=(0.3,),
)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    clips, photos = tmp_path / "clips", tmp_path / "photos"
    rng = np.random.default_rng(0)
    for action in ("wave", "jump"):
        (clips / action).mkdir(parents=True)
        for number in range(4):
            frames = rng.integers(0, 256, (17, 128, 128, 3), dtype=np.uint8)
            write_video(clips / action / f"{number}.mp4", frames)
    photos.mkdir()
    Image.fromarray(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(photos / "a.png")
    return Sources(clips, photos)


@pytest.mark.slow
def test_one_run_makes_all_models_and_resumes_where_it_was(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOKENIZER_PRESETS, "nano", tokenizer_config())
    monkeypatch.setitem(ELASTIC_SIZES, "tiny", (1, 64))
    run = tmp_path / "run"
    names = {name for name, _ in train_all(sources, run, 0.05, PLAN, "cpu")}
    assert names == {"nano", "tiny"}
    pipeline = VideoPipeline.from_pretrained(run / "models" / "tiny", device="cpu")
    assert {"wave", "jump"} <= set(pipeline.actions)
    # An image row of 128 pixels for each of five actions and two seeds.
    assert read_image(run / "tiny.png").shape[0] == 128 * 5 * 2
    figures = json.loads((run / "figures.json").read_text())
    assert figures["psnr_db"]["all"] > 0
    assert list(train_all(sources, run, 0.05, PLAN, "cpu")) == []


def test_a_plan_comes_back_from_json() -> None:
    assert Plan.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN


def test_samples_are_of_the_known_actions() -> None:
    own = [f"class-{number}" for number in range(9)]
    assert sample_actions(own) == ["class-0", "class-2", "class-4", "class-6", "class-8"]
    assert sample_actions(["wave"]) == ["wave"]
    assert sample_actions(["a", "b", "zoom-in", "c"]) == ["zoom-in", "a", "b", "c"]
    assert sample_actions([*own, *SAMPLE_ACTIONS]) == list(SAMPLE_ACTIONS)
