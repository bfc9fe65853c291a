"""What a visitor sees before the first run: one sentence, and recipes of one click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.clips.form import MIDDLE
from app.clips.sample import SAMPLE_ID, sample
from app.parts import controls
from app.parts.clip_view import making_view
from app.session import Session

SENTENCE = "Choose an action and press Generate. Below the clip you see how long each step took."
CAT = "chelsea.jpg"


class Welcome:
    """A sentence, three recipes, and the bundled clip that plays below them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        found = sample(session)
        self.clip = found and making_view(SAMPLE_ID, found.strip, found.making, found.block_shape)
        """For the large panes; None where no clip is bundled."""
        words = f" The clip below was made before: {found.words}." if found else ""
        with gr.Column(elem_id="welcome") as self.box:
            gr.Markdown(SENTENCE + words, elem_id="welcome-text")
            with gr.Row(elem_id="recipes"):
                self.robot = self._button("Robot closes a drawer", "recipe-robot")
                self.cat = self._button(
                    "Pan over the cat", "recipe-cat", visible=self.picture is not None
                )
                self.race = self._button("Race: token against row", "recipe-race")

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
        return {**_ROW, "start": "action", "action": "drawer-close", "temperature": temperature}

    def cat_values(self, keep: Callable[[str], str]) -> dict[str, Any]:
        """The fields that the second recipe sets; `keep` copies a file to the uploads."""
        temperature = controls.PRESETS["Photograph"][2]
        return {
            **_ROW, "start": "frame", "action": "pan-left", "temperature": temperature,
            "picture": keep(self.picture or ""), "crop": MIDDLE,
        }  # fmt: skip


_ROW = {"block": "1x1x16", "num_frames": 17, "seed": 42, "guidance": 1.0}
