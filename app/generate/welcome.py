"""What a visitor sees before the first run: one sentence, and recipes of one click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gradio as gr

from app.clips.form import MIDDLE, Start
from app.clips.sample import SAMPLE_ID, sample
from app.parts import controls
from app.parts.clip_view import making_view
from app.parts.events import Updates
from app.session import Session
from nbp_core.config.shapes import parse_block_shape

SENTENCE = "Choose an action and press Generate. Below the clip you see how long each step took."
CAT = "chelsea.jpg"


class Welcome:
    """A sentence, three recipes, and the bundled clip that plays below them."""

    def __init__(self, session: Session, model: str | None) -> None:
        self.session = session
        found = sample(session)
        self.clip = found and making_view(SAMPLE_ID, found.strip, found.making, found.block_shape)
        """For the large panes; None where no clip is bundled."""
        words = f" The clip below was made before: {found.words}." if found else ""
        with gr.Column(elem_id="welcome") as self.box:
            gr.Markdown(SENTENCE + words, elem_id="welcome-text")
            with gr.Row(elem_id="recipes"):
                can = self._can(model)
                self.robot = self._button(
                    "Robot closes a drawer", "recipe-robot", visible=can["action"]
                )
                self.cat = self._button("Pan over the cat", "recipe-cat", visible=can["frame"])
                self.race = self._button("Race: token against row", "recipe-race")

        self.recipes = [self.robot, self.cat]
        """Those that need a model which knows their action."""

    def refit(self, model: str | None) -> Updates:
        """Another model: the recipes that it can follow."""
        can = self._can(model)
        return {
            self.robot: gr.Button(visible=can["action"]),
            self.cat: gr.Button(visible=can["frame"]),
        }

    def _can(self, model: str | None) -> dict[Start, bool]:
        """Whether a model knows the action and the block of each recipe, by its start."""
        names = controls.action_names(self.session, model)
        block = parse_block_shape(_ROW["block"])

        def can(start: Start, action: str) -> bool:
            steps = controls.count_steps(self.session, model, start, _ROW["num_frames"])
            return action in names and block in steps

        return {
            "action": can("action", _ROBOT),
            "frame": can("frame", _CAT) and self.picture is not None,
        }

    @staticmethod
    def _button(label: str, elem_id: str, *, visible: bool = True) -> gr.Button:
        return gr.Button(label, size="sm", elem_id=elem_id, min_width=150, visible=visible)

    @property
    def picture(self) -> str | None:
        """The path of the cat's picture."""
        path = None if self.session.assets is None else self.session.assets / CAT
        return str(path) if path is not None and path.is_file() else None

    def robot_values(self) -> dict[str, Any]:
        """The fields of the form that the first recipe sets."""
        temperature = controls.PRESETS["Balanced"][2]
        return {**_ROW, "start": "action", "action": _ROBOT, "temperature": temperature}

    def cat_values(self, keep: Callable[[str], str]) -> dict[str, Any]:
        """The fields that the second recipe sets; `keep` copies a file to the uploads."""
        temperature = controls.PRESETS["Photograph"][2]
        return {
            **_ROW, "start": "frame", "action": _CAT, "temperature": temperature,
            "picture": keep(self.picture or ""), "crop": MIDDLE,
        }  # fmt: skip


_ROBOT, _CAT = "drawer-close", "pan-left"
_ROW: Final[dict[str, Any]] = {
    "block": "1x1x16", "num_frames": 17, "seed": 42, "guidance": 1.0, "actions": "",
}  # fmt: skip
