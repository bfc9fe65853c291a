"""Names of actions or classes -> condition ids.

Shapes: P condition tokens. There are three kinds: no conditions (plain), one id per action
(our models), a prompt of several tokens (the paper's UCF-101 models).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nbp_core.config.models import TransformerConfig
from nbp_core.transformer.prompts import condition_names, has_text, prompt_ids


class Conditions:
    """The condition names of a model and their ids."""

    def __init__(self, config: TransformerConfig, folder: Path | None = None) -> None:
        """`folder` holds the text tokenizer of a model with text prompts."""
        self.config = config
        self.folder = folder
        self.is_text = has_text(config)
        self.names = condition_names(config)

    def ids(self, name: str | None, guidance_scale: float) -> tuple[Tensor | None, Tensor | None]:
        """Ids (1, P) of a name and, if guidance needs them, of 'no condition'.

        Raises ValueError for an unknown name, or if the model needs a name and has none.
        """
        config = self.config
        if name is not None and name not in (*self.names, *config.keys):
            raise ValueError(self._unknown(name))
        if config.prefix_len == 0:
            return None, None
        if self.is_text:
            return self._prompt(name, guidance_scale), None
        shape = (1, config.prefix_len)
        guided = name is not None and guidance_scale != 1
        nulls = torch.full(shape, self.id(None)) if guided else None
        return torch.full(shape, self.id(name)), nulls

    def fitting(self, names: Sequence[str | None]) -> list[str | None]:
        """The names of real clips' actions; None for each if the model has no actions."""
        return list(names) if self.names else [None] * len(names)

    def id(self, name: str | None) -> int:
        """The id of an action, a key or None ('no condition'), for models with one id per
        condition."""
        config = self.config
        known = (*config.actions, *config.keys)
        index = config.num_conditions - 1 if name is None else known.index(name)
        return config.first_condition_id + index

    def _prompt(self, name: str | None, guidance_scale: float) -> Tensor:
        if name is None:
            raise ValueError(f"model {self.config.name!r} needs one of its class names")
        if guidance_scale != 1:
            raise ValueError(
                f"model {self.config.name!r} was never trained without its prompt, so "
                "guidance_scale must be 1"
            )
        if self.folder is None:
            raise ValueError(f"model {self.config.name!r} has no folder to find tokenizer.json in")
        ids = prompt_ids(name, self.folder, self.config.prefix_len)
        if max(ids) >= self.config.num_conditions:
            raise ValueError(
                f"tokenizer.json has a larger vocabulary than model {self.config.name!r}"
            )
        return torch.tensor([ids]) + self.config.first_condition_id

    def _unknown(self, name: str) -> str:
        model = self.config.name
        if not self.names:
            return f"model {model!r} has no actions, so it cannot make {name!r}"
        by_lower = {known.lower(): known for known in self.names}
        near = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.3)
        nearest = [by_lower[match] for match in near] or list(self.names[:3])
        return f"unknown action {name!r}; the nearest are {', '.join(nearest)}"
