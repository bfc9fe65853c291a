import argparse
import json
import pickle
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nbp_core import BlockTransformer, VideoPipeline, VideoTokenizer
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.description import CheckpointError
from nbp_core.config.models import TokenizerConfig, TransformerConfig
from nbp_core.config.presets import TOKENIZER_PRESETS
from nbp_core.config.shapes import Size3
from nbp_core.models.pairing import find_tokenizer
from nbp_core.models.released.convert import convert, understand
from nbp_core.models.released.file import ReleasedFileError
from nbp_core.tokenizer.conv import StreamState
from tests.support.released import (
    ReferenceTokenizer,
    ReferenceTransformer,
    reference_mask,
    save_tokenizer,
    save_transformer,
)
from tests.transformer.test_conditions import write_tokenizer

CODES = 64_000
WORDS = 100
HYBRID: dict[str, Any] = {
    "hybrid": True, "unconditional": False, "token_number_per_step": 16, "cond_token_num": 8,
    "n_layer": 2, "n_head": 2, "n_embd": 32,
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "hybrid": False, "unconditional": True, "token_number_per_step": 16, "cond_token_num": 0,
    "n_layer": 2, "n_head": 2, "n_embd": 32,
}  # fmt: skip


def reference_tokenizer(seed: int = 0) -> ReferenceTokenizer:
    torch.manual_seed(seed)
    model = ReferenceTokenizer().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith(("beta", "bias")) or parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def reference_transformer(hybrid: bool) -> ReferenceTransformer:
    torch.manual_seed(1)
    vocab, prefix_len = (16 + WORDS + CODES, 8) if hybrid else (CODES, 0)
    model = ReferenceTransformer(vocab, 32, 2, 2, prefix_len).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_a_tokenizer_computes_what_the_reference_does(tmp_path: Path) -> None:
    reference = reference_tokenizer()
    convert(save_tokenizer(reference, tmp_path / "magvit2_ucf.pt"), tmp_path / "tok")
    model = VideoTokenizer.from_pretrained(tmp_path / "tok")
    clip = torch.rand(1, 3, 9, 32, 32)
    latent = reference.latent(clip)
    assert latent.std() > 0.1
    torch.testing.assert_close(model.to_latent(clip).movedim(-1, 1), latent, atol=1e-4, rtol=0)
    tokens = reference.tokens(clip)
    assert len(set(tokens.flatten().tolist())) > 5
    assert torch.equal(model.encode(clip), tokens)
    torch.testing.assert_close(model.decode(tokens), reference.pixels(tokens), atol=1e-4, rtol=0)
    stream: StreamState = {}
    frames = [model.decode(tokens[:, i : i + 1], stream) for i in range(tokens.shape[1])]
    torch.testing.assert_close(torch.cat(frames, 2), reference.pixels(tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_transformer_computes_what_the_reference_does(tmp_path: Path, hybrid: bool) -> None:
    reference = reference_transformer(hybrid)
    path = save_transformer(reference, tmp_path / "x.ckpt", **(HYBRID if hybrid else PLAIN))
    convert(path, tmp_path / "model")
    model = BlockTransformer.from_pretrained(tmp_path / "model")
    layout = sequence_layout(model.config, num_latent_frames=3)
    tokens = torch.randint(0, CODES, (1, 3, 16, 16))
    conditions = torch.arange(16, 24)[None] if hybrid else None
    ids = layout.input_ids(tokens, conditions)
    if hybrid:
        flat = tokens.flatten(1) + 16 + WORDS
        bov, middle = torch.zeros(1, 1, dtype=torch.int64), torch.arange(1, 16)[None]
        by_hand = [torch.arange(16, 24)[None], bov, flat[:, :16], middle, flat[:, 16:-16]]
        assert torch.equal(ids, torch.cat(by_hand, 1))
    else:
        assert torch.equal(ids, tokens.flatten(1)[:, :-16])
    mask = reference_mask(ids.shape[1], 8 if hybrid else 0, 16, hybrid)
    expected = reference(ids, mask)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(ids, layout=layout), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model(ids, mask=mask), expected, atol=1e-4, rtol=0)
    cache = model.new_cache(1, layout.length)
    for step in layout.decode_steps(0 if hybrid else 256):
        features = model.features(
            ids[:, step.start : step.stop], layout, start=step.start, cache=cache
        )
        logits = model.video_logits(features[:, step.first - step.last :])
        wanted = expected[:, step.stop - (step.last - step.first) : step.stop, -CODES:]
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)


def test_the_released_tokenizer_is_recognised(tmp_path: Path) -> None:
    with torch.device("meta"):
        ours = VideoTokenizer(TOKENIZER_PRESETS["magvit2-64k"])
    assert sum(p.numel() for p in ours.parameters()) == 370_372_105
    small = understand(save_tokenizer(reference_tokenizer(), tmp_path / "magvit2_k600.pt"), "m")
    assert (small.kind, small.family) == ("tokenizer", "k600")
    assert isinstance(small.config, TokenizerConfig)
    assert [s.width for s in small.config.stages] == [32, 64, 64, 96]
    assert [s.encoder_units for s in small.config.stages] == [2, 1, 1, 2]
    assert small.config.strides == TOKENIZER_PRESETS["magvit2-64k"].strides


@pytest.mark.parametrize(
    ("args", "shape"),
    [
        ({**HYBRID, "token_number_per_step": 8}, (1, 1, 8)),
        ({**HYBRID, "token_number_per_step": 64}, (1, 4, 16)),
        ({**HYBRID, "token_number_per_step": 1, "hybrid": False}, (1, 1, 1)),
    ],
)
def test_sizes_come_from_tensors_and_arguments(
    tmp_path: Path, args: dict[str, Any], shape: Size3
) -> None:
    path = save_transformer(reference_transformer(True), tmp_path / "ucf_base.ckpt", **args)
    config = understand(path, "m").config
    assert isinstance(config, TransformerConfig)
    assert config.layout == "hybrid"
    assert (config.block_shape, config.prefix_len, config.num_heads) == (shape, 8, 2)
    assert config.num_conditions == 16 + WORDS - args["token_number_per_step"]
    assert (config.num_layers, config.width, config.max_len) == (2, 32, 5120)


def test_without_arguments_heads_must_be_said(tmp_path: Path) -> None:
    path = save_transformer(reference_transformer(False), tmp_path / "k600_base.ckpt")
    with pytest.raises(ReleasedFileError, match="--heads N"):
        understand(path, "m")
    config = understand(path, "m", num_heads=4).config
    assert isinstance(config, TransformerConfig)
    assert (config.num_heads, config.layout) == (4, "plain")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision_is_halved_when_asked(tmp_path: Path, dtype: torch.dtype) -> None:
    path = save_transformer(reference_transformer(False), tmp_path / "k600.ckpt", **PLAIN)
    convert(path, tmp_path / "whole")
    convert(path, tmp_path / "half", dtype=dtype)
    whole, half = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")
    )
    assert half < 0.51 * whole
    assert json.loads((tmp_path / "half" / "config.json").read_text())["origin"]["file"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def foreign_class(path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": Bomb()}, path)


def truncated(path: Path) -> None:
    save_transformer(reference_transformer(False), path, **PLAIN)
    path.write_bytes(path.read_bytes()[:-2000])


def nested_archives(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"inner{i}.zip", b"\0" * 10**6)


def compressed_checkpoint(path: Path) -> None:
    save_tokenizer(reference_tokenizer(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def other_names(path: Path) -> None:
    save_file({"model.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2)}, path)


def other_network(path: Path) -> None:
    torch.save({"state_dict": {"model.diffusion_model.w": torch.zeros(2)}}, path)


def no_weights(path: Path) -> None:
    torch.save({"epoch": 1, "lr": 0.1}, path)


def first_of_two_disks(path: Path) -> None:
    no_weights(path)
    data = bytearray(path.read_bytes())
    locator = data.rfind(b"PK\x06\x07")
    assert locator >= 0
    data[locator + 16] = 2  # the number of disks
    path.write_bytes(data)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def script(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)  # type: ignore[no-untyped-call]


def enlarged_view(path: Path) -> None:
    torch.save({"state_dict": {"transformer.tok_emb.weight": torch.zeros(1).expand(10**12)}}, path)


def misshapen(path: Path) -> None:
    model = reference_tokenizer()
    conv = model.get_submodule("decoder_layers.1.fn.2.conv")
    conv.weight = torch.nn.Parameter(torch.zeros(96, 96, 3, 3, 1))
    save_tokenizer(model, path)


def odd_arguments(path: Path) -> None:
    torch.save({"state_dict": argparse.Namespace(a=1)}, path)


def tokenizer_of(**kernels: tuple[int, ...]) -> Callable[[Path], None]:
    """A file of a tokenizer with these kernels, by stack."""
    weights = {
        f"{stack}_layers.{0 if stack == 'encoder' else 1}.conv.weight": torch.zeros(shape)
        for stack, shape in kernels.items()
    }
    return lambda path: torch.save({"model_state_dict": weights}, path)


def transformer_of(
    ids: tuple[int, ...], places: tuple[int, ...] | None = (1, 2000, 16), **args: Any
) -> Callable[[Path], None]:
    """A file of a transformer with tables of these shapes and these training arguments."""
    weights = {"transformer.tok_emb.weight": torch.zeros(ids)}
    if places is not None:
        weights["transformer.pos_emb"] = torch.zeros(places)
    stored = {"args": argparse.Namespace(n_head=2, **args)}
    return lambda path: torch.save({"state_dict": weights, "hyper_parameters": stored}, path)


def first_kernel_of(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """A file of a tokenizer whose first kernel is changed."""
    weights = reference_tokenizer().state_dict()
    name = "encoder_layers.0.conv.weight"
    return lambda path: torch.save(
        {"model_state_dict": {**weights, name: change(weights[name])}}, path
    )


NO_KERNEL = r"which does not extend over time, height and width$"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (tokenizer_of(encoder=(4, 3, 3, 3, 3)),
         "^the decoder of this tokenizer does not begin with a convolution$"),
        (tokenizer_of(encoder=(4, 3, 3, 3), decoder=(4, 6, 3, 3, 3)), NO_KERNEL),
        (tokenizer_of(encoder=(4, 3, 3, 3, 3), decoder=(4,)), NO_KERNEL),
        (tokenizer_of(encoder=(4, 3, 3, 3, 3), decoder=(4, 0, 3, 3, 3)), NO_KERNEL),
        (transformer_of((CODES,)), r"tensor 'tok_emb.weight' of this transformer has the shape"),
        (transformer_of((CODES, 16), None), "^this transformer has no tensor 'pos_emb'$"),
        (transformer_of((CODES, 16), (2000, 16)), "which must have 3 sides$"),
        (transformer_of((CODES, 16), resolution=[128, 128]),
         r'have "\[128, 128\]" as resolution, which must be a whole number of at least 8$'),
        (transformer_of((CODES, 16), resolution=4), 'have "4" as resolution'),
        (transformer_of((CODES, 16), sequence_length="x"), 'have "x" as sequence_length'),
        (transformer_of((CODES, 16), token_number_per_step=-1), "as token_number_per_step"),
        (transformer_of((CODES, 16), token_number_per_step=5),
         "^blocks of 5 tokens do not fill the rows of a grid of 5x16x16$"),
        (transformer_of((CODES, 16), token_number_per_step=512), "^blocks of 512 tokens"),
        (first_kernel_of(torch.Tensor.to_sparse), "does not hold plain real numbers$"),
        (first_kernel_of(lambda x: x + 1j), "does not hold plain real numbers$"),
        (first_kernel_of(lambda x: x.to("meta")), "does not hold plain real numbers$"),
        (first_kernel_of(lambda x: x / 0), "has numbers that are not finite in float32$"),
    ],
)  # fmt: skip
def test_odd_shapes_and_arguments_are_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "ucf.ckpt")
    with pytest.raises(ReleasedFileError, match=sentence):
        convert(tmp_path / "ucf.ckpt", tmp_path / "out")


def test_numbers_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    first_kernel_of(lambda x: x + 1e5)(tmp_path / "ucf.pt")
    with pytest.raises(ReleasedFileError, match=r"not finite in float16$"):
        convert(tmp_path / "ucf.pt", tmp_path / "out", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == [tmp_path / "ucf.pt"]


def test_weights_that_share_memory_or_keep_gradients_are_converted(tmp_path: Path) -> None:
    weights = reference_tokenizer().state_dict()
    same = dict.fromkeys(tuple(weight.shape) for weight in weights.values())
    for name, weight in weights.items():
        shape = tuple(weight.shape)
        same[shape] = same[shape] if same[shape] is not None else torch.nn.Parameter(weight)
        weights[name] = same[shape]
    torch.save({"model_state_dict": weights}, tmp_path / "magvit2_ucf.pt")
    convert(tmp_path / "magvit2_ucf.pt", tmp_path / "tok")
    model = VideoTokenizer.from_pretrained(tmp_path / "tok")
    kernels = (model.encoder_layers[1], model.encoder_layers[2])
    assert all(torch.equal(a, b) for a, b in zip(*(k.parameters() for k in kernels), strict=True))


@pytest.mark.parametrize("heads", [0, -1])
def test_an_odd_number_of_heads_is_refused(tmp_path: Path, heads: int) -> None:
    path = save_transformer(reference_transformer(False), tmp_path / "k600.ckpt", **PLAIN)
    with pytest.raises(ValueError, match=f"num_heads must be 1 to 65,536, not {heads}"):
        convert(path, tmp_path / "out", num_heads=heads)


def test_positions_are_needed_also_where_the_heads_are_said(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"transformer.tok_emb.weight": torch.zeros(CODES, 16)}},
        tmp_path / "k600.ckpt",
    )
    with pytest.raises(ReleasedFileError, match="has no tensor 'pos_emb'"):
        convert(tmp_path / "k600.ckpt", tmp_path / "out", num_heads=2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (foreign_class, "asks for the Python class"),
        (truncated, "is cut short"),
        (nested_archives, "not one written by PyTorch"),
        (first_of_two_disks, "is damaged: it is not a whole archive"),
        (compressed_checkpoint, "compressed or overlapping parts"),
        (other_names, "is a safetensors file"),
        (other_network, "seems to be a diffusion model"),
        (no_weights, "holds no weights, only 'epoch', 'lr'"),
        (bare_pickle, "is a bare pickle"),
        (script, "is a TorchScript file"),
        (enlarged_view, "larger than its file"),
        (misshapen, "decoder_layers.1.body.2.conv.weight is"),
        (odd_arguments, "holds no weights"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), "is a web page"),
        (lambda path: None, "there is no file"),
    ],
)
def test_other_files_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.ckpt"
    make(path)
    before = set(tmp_path.iterdir())
    with pytest.raises(ReleasedFileError, match=sentence) as caught:
        convert(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "structure", [b"\x80\x02.", b"\x80\x02J\x01"], ids=["IndexError", "struct.error"]
)
def test_a_damaged_structure_is_refused_in_one_sentence(tmp_path: Path, structure: bytes) -> None:
    """PyTorch raises another error for each."""
    path = tmp_path / "ucf.ckpt"
    no_weights(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, structure if name.endswith("data.pkl") else content)
    with pytest.raises(ReleasedFileError, match=r"^'ucf\.ckpt' is damaged"):
        convert(path, tmp_path / "out")


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), MemoryError()])
def test_a_fault_of_the_machine_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def load(*arguments: Any, **options: Any) -> None:
        raise fault

    no_weights(tmp_path / "ucf.ckpt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(fault)):
        convert(tmp_path / "ucf.ckpt", tmp_path / "out")


def test_nothing_is_left_of_a_conversion_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_tokenizer(reference_tokenizer(), tmp_path / "magvit2_ucf.pt")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        convert(path, tmp_path / "out", on_start=lambda model: full)
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_folder_is_not_written_into(tmp_path: Path) -> None:
    path = save_tokenizer(reference_tokenizer(), tmp_path / "magvit2_ucf.pt")
    (tmp_path / "out").mkdir()
    with pytest.raises(ReleasedFileError, match="'out' exists already"):
        convert(path, tmp_path / "out")


def test_pairs_are_told_by_data_set(tmp_path: Path) -> None:
    ucf = save_transformer(reference_transformer(True), tmp_path / "ucf_base_nbp16.ckpt", **HYBRID)
    convert(ucf, tmp_path / "ucf")
    with pytest.raises(CheckpointError, match=r"convert magvit2_ucf\.pt to there"):
        find_tokenizer(tmp_path / "ucf")
    tokenizer = save_tokenizer(reference_tokenizer(), tmp_path / "t.pt")
    convert(tokenizer, tmp_path / "magvit2_ucf", family="k600")
    with pytest.raises(CheckpointError, match=r"'magvit2_ucf' is another one \(k600\)"):
        find_tokenizer(tmp_path / "ucf")
    convert(tokenizer, tmp_path / "right", family="ucf")
    convert(ucf, tmp_path / "ucf2", tokenizer="../right")
    assert find_tokenizer(tmp_path / "ucf2")[0] == tmp_path / "right"


def test_pairs_are_told_by_the_tokenizer_carried_along(tmp_path: Path) -> None:
    mine, other = reference_tokenizer(0), reference_tokenizer(1)
    path = tmp_path / "k600_base_nbp16.ckpt"
    save_transformer(reference_transformer(False), path, tokenizer=mine, **PLAIN)
    convert(path, tmp_path / "model", tokenizer="../tok")
    convert(save_tokenizer(other, tmp_path / "magvit2_k600.pt"), tmp_path / "tok")
    with pytest.raises(CheckpointError, match="is another one"):
        find_tokenizer(tmp_path / "model")
    convert(save_tokenizer(mine, tmp_path / "mine.pt"), tmp_path / "tok2")
    convert(path, tmp_path / "model2", tokenizer="../tok2")
    assert find_tokenizer(tmp_path / "model2")[0] == tmp_path / "tok2"


def test_from_two_files_to_a_clip(tmp_path: Path) -> None:
    tokenizer = reference_tokenizer()
    convert(save_tokenizer(tokenizer, tmp_path / "magvit2_ucf.pt"), tmp_path / "magvit2_ucf")
    convert(save_tokenizer(tokenizer, tmp_path / "magvit2_k600.pt"), tmp_path / "magvit2_k600")
    ucf, k600 = tmp_path / "ucf_base_nbp16_hybrid.ckpt", tmp_path / "k600_base_nbp16.ckpt"
    convert(save_transformer(reference_transformer(True), ucf, **HYBRID), tmp_path / "ucf")
    convert(save_transformer(reference_transformer(False), k600, **PLAIN), tmp_path / "k600")
    write_tokenizer(tmp_path / "ucf", ["<unk>", "<s>", "</s>", "yo"])
    by_class = VideoPipeline.from_pretrained(tmp_path / "ucf", device="cpu")
    assert len(by_class.actions) == 101
    assert by_class.block_shapes == ((1, 1, 16),)
    steps = list(islice(by_class.stream("YoYo"), 18))
    assert [step.phase for step in steps[-3:]] == ["token", "block", "block"]
    assert steps[0].num_steps == 95
    frames = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), dtype=np.uint8)
    from_frames = VideoPipeline.from_pretrained(tmp_path / "k600", device="cpu")
    longer = list(islice(from_frames.stream(frames_THWC=frames), 16))
    assert longer[0].num_steps == 48
    assert longer[0].new_frames is not None
    assert longer[0].new_frames.shape == (5, 128, 128, 3)
    assert longer[-1].new_frames is not None
    assert longer[-1].new_frames.shape == (4, 128, 128, 3)
