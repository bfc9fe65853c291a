"""Attention maps are what attention really uses, and the labels say what stands where."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nbp_core.attention_maps.figure import WRITERS, draw, latent_frames
from nbp_core.attention_maps.pictures import Head, colours, levels
from nbp_core.attention_maps.view import AttentionView, look_into
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.cli.main import main
from nbp_core.config.shapes import NO_TOKEN, LayoutKind, Size3
from nbp_core.media.video import read_comment, write_video
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import (
    CODES,
    build_pipeline,
    build_transformer,
    save_pipeline,
    transformer_config,
)

GRID: Size3 = (3, 4, 4)
CASES: list[tuple[LayoutKind, Size3]] = [
    ("elastic", (1, 1, 4)),
    ("elastic", (1, 1, 1)),
    ("elastic", (2, 1, 2)),
    ("hybrid", (1, 2, 4)),
    ("plain", (1, 1, 4)),
]


def opened(
    kind: LayoutKind, shape: Size3
) -> tuple[BlockTransformer, SequenceLayout, AttentionView, Tensor]:
    config = transformer_config(kind, shape, GRID)
    model = build_transformer(config)
    layout = sequence_layout(config, shape)
    tokens_Bthw = torch.randint(CODES, (1, *GRID))
    conditions = None
    if config.prefix_len:
        conditions = config.first_condition_id + torch.arange(config.prefix_len)[None]
    view = look_into(model, layout, tokens_Bthw, conditions)
    return model, layout, view, layout.input_ids(tokens_Bthw, conditions)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_the_weights_are_those_that_attention_uses(kind: LayoutKind, shape: Size3) -> None:
    model, layout, view, ids_BL = opened(kind, shape)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    attentions = [layer.attention for layer in model.layers if isinstance(layer, Layer)]
    for attention in attentions:
        attention.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0]))
        attention.proj.register_forward_pre_hook(lambda _, args: outputs.append(args[0][0]))
    model.features(ids_BL, layout)
    assert view.num_layers == len(outputs) == 2
    for layer, attention in enumerate(attentions):
        values = attention.value(inputs[layer]).chunk(view.num_heads, dim=-1)
        weighted = [
            torch.from_numpy(view.map(layer, head)) @ values[head] for head in range(view.num_heads)
        ]
        torch.testing.assert_close(torch.cat(weighted, -1), outputs[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_rows_add_up_to_one_and_nothing_shows_through_the_mask(
    kind: LayoutKind, shape: Size3
) -> None:
    _, layout, view, _ = opened(kind, shape)
    heads: tuple[Head, ...] = (0, 1, "mean")
    for head in heads:
        weights_LL = view.map(1, head)
        assert weights_LL.shape == (view.length, view.length)
        assert weights_LL.dtype == np.float32
        np.testing.assert_allclose(weights_LL.sum(1), 1, atol=1e-5)
        assert (weights_LL[~layout.mask_LL.numpy()] == 0).all()
        np.testing.assert_allclose(view.row(1, head, 5), weights_LL[5], atol=1e-6)
    both = np.stack([view.map(1, 0), view.map(1, 1)])
    np.testing.assert_allclose(view.map(1, "mean"), both.mean(0), atol=1e-6)
    np.testing.assert_allclose(view.map(1, "max"), both.max(0), atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_a_look_is_a_row_laid_out_on_the_grid(kind: LayoutKind, shape: Size3) -> None:
    _, layout, view, _ = opened(kind, shape)
    query = view.query_of(2 * 16 + 7)
    assert view.targets_L[query] == 2 * 16 + 7
    look, row_L = view.look(0, 1, query), view.row(0, 1, query)
    total = look.weights_thw.sum() + look.conditions + look.bov + look.middle
    assert total == pytest.approx(1, abs=1e-5)
    for position, index in enumerate(layout.source_L.tolist()):
        if index != NO_TOKEN:
            place = int(layout.blocks.places_NS.flatten()[index])
            assert look.weights_thw.flat[place] == row_L[position]
            assert look.is_seen_thw.flat[place] == layout.mask_LL[query, position]
    assert (look.weights_thw[~look.is_seen_thw] == 0).all()


def test_recording_changes_nothing() -> None:
    model, layout, _, ids_BL = opened("elastic", (1, 1, 4))
    conditions = ids_BL[:, : layout.prefix_len]
    before = model.features(ids_BL, layout)
    look_into(model, layout, torch.zeros((1, *GRID), dtype=torch.int64), conditions)
    assert torch.equal(before, model.features(ids_BL, layout))


def test_labels_and_walls_name_the_sequence() -> None:
    _, layout, view, _ = opened("elastic", (1, 1, 4))
    assert view.labels[:3] == ["condition 1", "BOV", "token (1, 1, 1)"]
    assert view.labels[6:9] == [
        "middle token 1 at (1, 1, 2)",
        "middle token 2 at (1, 1, 3)",
        "middle token 3 at (1, 1, 4)",
    ]
    assert view.labels[9] == "token (1, 2, 1)"
    assert len(view.labels) == view.length == layout.length
    assert view.walls == [0, 1, 2, 3, 4, *range(5, view.length + 1, 4)]
    # Two of the walls part what the mask parts: the last query before one sees nothing after it.
    for wall in view.walls[1:-1]:
        assert not layout.mask_LL[wall - 1, wall]


def test_every_token_has_the_query_that_makes_it() -> None:
    for kind, shape in CASES:
        _, _, view, _ = opened(kind, shape)
        # A plain model is given its first block.
        first = 4 if kind == "plain" else 0
        assert sorted(view.query_of(place) for place in range(first, 48)) == list(
            range(view.length - 48 + first, view.length)
        )


def test_the_given_block_of_a_plain_model_has_no_query() -> None:
    _, _, view, _ = opened("plain", (1, 1, 4))
    with pytest.raises(ValueError, match="given"):
        view.query_of(0)


def test_thumbnails_keep_the_greatest_weights() -> None:
    _, _, view, _ = opened("elastic", (1, 1, 4))
    small = view.thumbnails(8)
    assert small.shape == (2, 2, 8, 8)
    assert small.dtype == np.uint8
    for layer in range(2):
        for head in range(2):
            assert small[layer, head].max() == levels(view.map(layer, head)).max()
    assert (small[:, :, 0, -1] == 0).all()


@pytest.mark.parametrize(("layer", "head", "sentence"), [(2, 0, "no layer 3"), (0, -1, "no head")])
def test_what_is_not_there_is_refused(layer: int, head: int, sentence: str) -> None:
    _, _, view, _ = opened("elastic", (1, 1, 4))
    with pytest.raises(ValueError, match=sentence):
        view.map(layer, head)


def test_levels_are_logarithmic_and_end_at_nothing() -> None:
    weights = np.array([0, 1e-7, 1e-5, 1e-4, 0.1, 1], np.float32)
    assert levels(weights).tolist() == [0, 0, 1, 52, 204, 255]
    table = colours().astype(int)
    assert table.shape == (256, 3)
    assert (np.diff(table.sum(1)) >= -2).all(), "brighter is more"


def test_files_hold_the_exact_weights(tmp_path: Path) -> None:
    _, _, view, _ = opened("elastic", (2, 1, 2))
    weights_LL = view.map(0, 1)
    for suffix, write in WRITERS.items():
        write(tmp_path / f"map{suffix}", weights_LL, view.positions(), "layer 1")
    with np.load(tmp_path / "map.npz") as kept:
        assert (kept["weights_LL"] == weights_LL).all()
        assert kept["report"] == "layer 1"
        assert kept["label_L"].tolist() == view.labels
        assert kept["walls"].tolist() == view.walls
        assert kept["place_L3"][:3].tolist() == [[-1] * 3, [-1] * 3, [0, 0, 0]]
        assert kept["target_L3"][:2].tolist() == [[-1] * 3, [0, 0, 0]]
    assert read_comment(tmp_path / "map.png") == "layer 1"


def test_one_drawing_is_a_labelled_figure_in_every_format(tmp_path: Path) -> None:
    _, _, view, _ = opened("elastic", (2, 1, 2))
    report = json.dumps({"layer": 1, "head": "2", "block": "2x1x2", "clip": "a & b"})
    for name in ("map.png", "map.svg", "map.pdf", "again.svg"):
        path = tmp_path / name
        WRITERS[path.suffix](path, view.map(0, 1), view.positions(), report)
    svg = (tmp_path / "map.svg").read_text()
    starts, names = latent_frames(view.positions())
    assert [view.labels[start] for start in starts] == [
        f"token ({t + 1}, 1, 1)" for t in range(len(starts))
    ]
    words = ("Attention of layer 1, head 2, blocks of 2x1x2", "attention weight", "query", *names)
    assert [word for word in words if word not in svg] == []
    assert svg == (tmp_path / "again.svg").read_text(), "the same map gives the same file"
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "map.png") as png:
        assert min(png.size) > 1000
    assert json.loads(read_comment(tmp_path / "map.png") or "") == json.loads(report)


def test_a_figure_shows_the_weights_in_the_ramps_colours_and_the_mask_in_grey() -> None:
    weights_LL = np.array([[1, 0, 0], [0.1, 0.9, 0], [0.2, 0.2, 0.6]], np.float32)
    place_L3 = np.array([[-1] * 3, [0] * 3, [1, 0, 0]])
    figure = draw(weights_LL, {"walls": np.array([0, 1, 3]), "place_L3": place_L3}, "told")
    shown = np.asarray(figure.axes[0].images[0].get_array())
    table = colours()
    assert (shown[1, :2] == table[levels(weights_LL)[1, :2]]).all()
    assert (shown[0, 1:] == 225).all()
    assert (shown[1, 2] == table[0]).all(), "seen, with no weight"
    stairs = np.asarray(figure.axes[0].lines[0].get_xydata()).tolist()
    assert stairs == [[1, 0], [1, 1], [3, 1], [3, 3]]
    assert figure.axes[0].get_title() == "told"


def test_the_pipeline_opens_a_clip_of_any_length_and_block() -> None:
    pipeline = build_pipeline()
    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    tokens_thw = pipeline.tokenize(frames)
    assert tokens_thw.shape == (2, 16, 16)
    view = pipeline.attention(tokens_thw, "door-open", (1, 16, 16))
    assert view.grid == (2, 16, 16)
    assert view.length == 1 + 256 + 256
    longer = np.concatenate([tokens_thw] * 4)
    assert pipeline.attention(longer).grid == (5, 16, 16)
    other = pipeline.attention(tokens_thw, "pan-left", (1, 16, 16))
    assert not np.array_equal(view.map(0, 0), other.map(0, 0)), "the action is part of it"
    for bad in (tokens_thw + CODES, tokens_thw - CODES, tokens_thw[:, :8]):
        with pytest.raises(ValueError, match="tokens"):
            pipeline.attention(bad)
    with pytest.raises(ValueError, match="unknown action"):
        pipeline.attention(tokens_thw, "door-opn")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models"))


def test_the_verb_writes_the_map_of_a_clip_it_makes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.npz"
    command = ["attention", "--model", str(model), "--action", "door-open", "--block", "1x16x16"]
    assert main([*command, "--layer", "2", "--head", "1", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["block"], report["layer"], report["head"]) == ("1x16x16", 2, "1")
    assert report["positions"] == 1 + 1280
    with np.load(out) as kept:
        assert json.loads(str(kept["report"])) == report
        np.testing.assert_allclose(kept["weights_LL"].sum(1), 1, atol=1e-5)
    assert main([*command, "--layer", "3", "--out", str(out)]) == 2
    assert "there is no layer 3" in capsys.readouterr().err


def test_the_verb_looks_at_a_file(model: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "map.png"
    write_video(clip, np.zeros((7, 64, 64, 3), np.uint8))
    assert (
        main(["attention", "--model", str(model), "--context", str(clip), "--out", str(out)]) == 0
    )
    # Seven frames hold five, two latent frames; the last block is made, not fed.
    length = 1 + 1 + 16 + 15 + (32 - 2) * 16
    assert json.loads(read_comment(out) or "")["positions"] == length


@pytest.mark.parametrize("options", [("--head", "first"), ("--head", "0"), ("--out", "map.txt")])
def test_the_verb_refuses(model: Path, capsys: pytest.CaptureFixture[str], options: Any) -> None:
    assert main(["attention", "--model", str(model), "--out", "map.png", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("map.png").exists()


@pytest.mark.parametrize("head", ["sum", 0.0, None])
def test_a_head_that_is_none_is_refused(head: Any) -> None:
    _, _, view, _ = opened("elastic", (1, 1, 4))
    with pytest.raises(ValueError, match="a head must be a whole number, not"):
        view.map(0, head)


def test_a_head_may_be_a_number_of_numpy() -> None:
    _, _, view, _ = opened("elastic", (1, 1, 4))
    heads: list[Any] = list(np.arange(view.num_heads))
    for head in heads:
        assert np.array_equal(view.map(0, head), view.map(0, int(head)))


def test_figures_drawn_at_once_are_those_drawn_one_by_one(tmp_path: Path) -> None:
    _, _, view, _ = opened("elastic", (2, 1, 2))
    settings = dict(mpl.rcParams)

    def drawn(number: int) -> str:
        path = tmp_path / f"{number}.svg"
        WRITERS[".svg"](path, view.map(0, 0), view.positions(), "told")
        return path.read_text()

    alone = drawn(0)
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(drawn, range(1, 13)))
    assert set(together) == {alone}
    assert dict(mpl.rcParams) == settings
