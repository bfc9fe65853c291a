"""The How it works tab: six steps with the visitor's own clip, and any block shape below them."""

from __future__ import annotations

from typing import Any, Final

import gradio as gr

from app.clips.odds import Odds
from app.how.shapes import Shapes
from app.how.steps import choices, steps_view
from app.parts import controls
from app.parts.events import LAST, LIGHT, OWN, Updates, refusals
from app.parts.follow import Follower
from app.parts.sources import component_script, template
from app.session import Session

_ABOUT: Final = (
    "## From a video frame to a generated clip, in six steps\n\nThe steps show one clip. Choose a"
    " frame or a token in any of them, and all the others follow."
)
TRIED: Final = ("generate", "compare", "attention", "tokenizer")
"""The tabs that the steps lead to."""


class HowTab:
    """Builds the tab and wires it; every handler is a method."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        tab: gr.Tab,
        tabs: gr.Tabs,
        made: Follower,
        speeds: Follower,
        odds: Odds,
    ) -> None:
        """made: which run Generate shows; speeds: the measurement of this tab."""
        self.session = session
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.Markdown(_ABOUT, elem_id="how-about")
            with gr.Column(scale=2, min_width=300):
                self.clip = gr.Dropdown(
                    [], label="Clip", elem_id="how-clip", filterable=False,
                    info="The clip that Generate shows, your kept clips, or the bundled one.",
                )  # fmt: skip
        controls.hand_over_value(self.clip)
        self.steps = gr.HTML(
            {}, html_template=template(__file__, "steps.html"),
            js_on_load=component_script(__file__, "steps.js", asks_server=True),
            server_functions=[odds.token_odds], elem_id="how-steps", label="Six steps",
        )  # fmt: skip
        self.newest = gr.State("")
        """The clip that Generate showed when this tab was last opened."""
        self.shown = gr.State("")
        Shapes(session, blocks, model, tab, speeds)
        known = [made.job_id, self.newest, self.clip, self.shown]
        found = [self.clip, self.newest, self.shown, self.steps]
        tab.select(self.enter, known, found, **LIGHT)
        self.clip.input(self.open, self.clip, [self.shown, self.steps], **OWN, **LAST)
        self.steps.select(self.lead, None, tabs, **LIGHT)

    def enter(self, made: str, newest: str, chosen: str | None, shown: str) -> Updates:
        """Coming to the tab: a clip just made is shown, else the chosen one stays."""
        offered = choices(self.session, made)
        ids = [clip_id for _, clip_id in offered]
        latest, before = made if made in ids else "", chosen
        if latest != newest or chosen not in ids:
            # Without a clip of this visit the bundled one, which Generate shows as well.
            chosen = latest or (ids[-1] if ids else "")
        updates: Updates = {
            self.clip: controls.refitted(gr.Dropdown, offered, chosen or None, before),
            self.newest: latest,
        }
        if not chosen or chosen == shown:
            return updates
        try:
            view = steps_view(self.session, chosen)
        except ValueError:
            return updates  # it is damaged, or was deleted meanwhile
        return {**updates, self.shown: chosen, self.steps: view}

    def open(self, clip_id: str | None) -> Updates:
        """Another clip."""
        with refusals():
            view = steps_view(self.session, clip_id)
        return {self.shown: clip_id or "", self.steps: view}

    def lead(self, event: gr.EventData) -> Any:
        """The tab that a step leads to."""
        tab = event._data.get("tab") if isinstance(event._data, dict) else None
        return gr.Tabs(selected=tab) if tab in TRIED else gr.skip()
