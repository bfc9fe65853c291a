"""train_transformer: a whole run of a BlockTransformer on tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from nbp_core.config.description import load_config
from nbp_core.config.models import TransformerConfig
from nbp_core.data.sources import check_actions
from nbp_core.train.growth import fit_weights, grown, has_size_of, reconditioned
from nbp_core.train.loop.compiling import compile_parts, pays_to_compile
from nbp_core.train.loop.trainer import TrainConfig, Trainer, TrainStep, new_accelerator
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.train.transformer.task import TokenSets, TransformerTask, named
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer


def train_transformer(
    config: TransformerConfig,
    recipe: TransformerRecipe,
    train_config: TrainConfig,
    run_folder: Path,
    train: TokenSets,
    val: TokenSets,
    tokenizer: dict[str, str],
    device: str = "cpu",
    start_from: Path | None = None,
    prompts: Path | None = None,
    levels: tuple[int, ...] = (),
) -> Iterator[TrainStep]:
    """Trains, or resumes, the run in `run_folder`; writes the averaged model to its model/.

    tokenizer: the reference to the tokenizer of these tokens, for the model's config.json.
    start_from: a model folder with the first weights, grown if the model is smaller (growth.py);
        None: random weights.
    prompts: folder with the text tokenizer of a model whose conditions are class prompts.
    levels: FSQ levels of the tokens' codebook.
    Raises ValueError for validation clips of actions without training clips, for a recipe that the
    model does not support, and for first weights that do not fit.
    """
    for name, found in named(val).items():
        check_actions(named(train)[name].actions, found.actions)
    accelerator = new_accelerator(device, train_config.accumulate)
    torch.manual_seed(train_config.seed)
    model = BlockTransformer(config) if start_from is None else _first_weights(config, start_from)
    model = model.to(accelerator.device)
    if pays_to_compile(accelerator.device, train_config.is_long):
        compile_parts(model, Layer)
    task = TransformerTask(
        model,
        recipe,
        train,
        val,
        batch_size=train_config.batch_size,
        seed=train_config.seed,
        prompts=prompts,
        levels=levels,
    )
    trainer = Trainer(task, train_config, run_folder, accelerator)
    yield from trainer.run()
    trainer.save_model("transformer", config, tokenizer=tokenizer)


def _first_weights(config: TransformerConfig, folder: Path) -> BlockTransformer:
    known = load_config(folder, TransformerConfig)
    start = BlockTransformer.from_pretrained(folder)
    if (known.actions, known.keys) != (config.actions, config.keys):
        start = reconditioned(start, config.actions, config.keys)
    if not has_size_of(known, config):
        return grown(start, config)
    model = BlockTransformer(config)
    fit_weights(model, start)
    return model
