"""The Play tab: where to start from, the picture that answers to keys, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs import Job, JobView
from app.parts import uploads
from app.parts.events import LAST, LIGHT, OWN, Menus, Updates, refusal, refusals, when
from app.parts.follow import Follower
from app.parts.sources import component_script, template
from app.parts.thumbs import chosen_index, thumb, thumbs
from app.play import saved
from app.play.player import block_choices
from app.play.players import Players
from app.play.saved import Saved
from app.play.starts import NEW_SCENE, Kind, Start, Starts
from app.session import Session
from nbp_core.generation.recording import read_recording

_KINDS: tuple[tuple[Kind, str], ...] = (
    ("scene", "Robot arm"),
    ("place", "Places to look around in"),
    ("photograph", "Photographs to move over"),
)


class PlayTab:
    """Builds the tab and wires it; every handler is a method."""

    def __init__(
        self, session: Session, blocks: gr.Blocks, model: gr.Dropdown, follower: Follower
    ) -> None:
        self.session = session
        self.starts = Starts(session.assets)
        self.players = Players(session, self.starts)
        self.model = model
        self.follower = follower
        value = self._value(model.value, self.starts.first)
        label, is_shown = self._instead(value)
        # Its clicks are wired by the page: another model concerns every tab.
        self.instead = gr.Button(
            label, visible=is_shown, variant="primary", size="sm", elem_id="play-instead",
        )  # fmt: skip
        self.view = gr.HTML(
            value,
            html_template=template(__file__, "play.html"),
            js_on_load=component_script(__file__, "play.js"),
            elem_id="play", label="Play",
        )  # fmt: skip
        self._build_saved()
        self._build_starts()
        self._wire(blocks)

    def _build_saved(self) -> None:
        self.status = gr.HTML(elem_id="play-saved", label="The saved clip")
        self.halt = gr.Button(
            "Stop",
            variant="stop",
            visible=False,
            interactive=False,
            size="sm",
            elem_id="play-saved-stop",
        )
        with gr.Row(visible=False) as self.result:
            self.clip = gr.DownloadButton("Clip (MP4)", size="sm", elem_id="play-get-clip")
            self.file = gr.DownloadButton("Recording (JSON)", size="sm", elem_id="play-get-json")
            self.go_on = gr.Button("Continue in Generate", size="sm", elem_id="play-go-on")

    def _build_starts(self) -> None:
        self.rows: dict[Kind, gr.HTML] = {}
        for kind, title in _KINDS:
            found = self.starts.of_kind(kind)
            assets = self.session.assets or Path()
            items = [thumb(assets, s.shown_path, s.title) for s in found if s.shown_path]
            self.rows[kind] = thumbs(title, items, f"play-{kind}s", visible=bool(items))
        self.scene = gr.Button("A new scene of the arm", size="sm", elem_id="play-new-scene")
        with gr.Row(equal_height=True):
            with gr.Column():
                self.photo = uploads.picture_upload(
                    self.session, "Your photograph", "play-photo", "The photograph you chose"
                )
                self.crop = uploads.crop_slider("play-crop")
            self.recorded = gr.File(
                label="A recording, or a clip that was saved here", height=220,
                elem_id="play-recorded", file_types=[".json", ".mp4"],
            )  # fmt: skip
            uploads.hand_over_path(self.recorded)

    def _wire(self, blocks: gr.Blocks) -> None:
        model, view, follower = self.model, self.view, self.follower
        for kind, row in self.rows.items():
            row.select(self._chooser(kind), model, view, **OWN)
        self.scene.click(self.new_scene, model, view, **OWN)
        self.menus: Menus = ((self.change_model, [model], [view, self.instead]),)
        when([model.change], *self.menus[0], **LIGHT)
        taken = [model, self.photo, self.crop]
        chosen = self.photo.upload(self.take_photo, taken, view, **OWN)
        chosen.failure(lambda: None, None, self.photo, **LIGHT)
        self.crop.input(self.take_photo, taken, view, **OWN, **LAST)
        self.photo.change(
            lambda path: gr.Slider(visible=path is not None), self.photo, self.crop, **LIGHT
        )
        given = self.recorded.upload(
            self.replay, [model, self.recorded], [view, self.recorded], **OWN
        )
        given.failure(lambda: None, None, self.recorded, **LIGHT)
        shown = [self.status, self.result, self.clip, self.file]
        follower.start(
            self.draw, shown, often=[self.status], go=[], halt=[self.halt],
            idle=lambda: {self.status: ""},
        )  # fmt: skip
        follower.find_again(blocks)
        asked = [model, follower.job_id]
        view.select(self.save, asked, [follower.job_id, *follower.shown], **OWN)

    def _value(self, model: str | None, start: Start | None) -> dict[str, Any]:
        """The component's value: the model, why it cannot play, and the chosen start."""
        value = {"model": model or "", **self._offered(model)}
        if start is not None:
            value["start"] = {
                "id": start.id,
                "title": start.title,
                "world": start.world,
                "beside": start.has_episode,
                "picture": start.picture_uri(),
                "chosen": time.monotonic_ns(),
            }
        return value

    def _offered(self, model: str | None) -> dict[str, Any]:
        """The blocks and the guidance of a model, and why it cannot be played."""
        try:
            offer = self.session.offer(model)
        except ValueError as error:
            return {"blocks": [], "guidance": 1.0, "why": str(error)}
        blocks = block_choices(offer)
        why = f"The model {model} cannot be played with keys. Choose another one above."
        return {
            "blocks": blocks,
            "guidance": offer.key_guidance,
            "why": "" if offer.worlds and blocks else why,
        }

    def _chooser(self, kind: Kind) -> Callable[[str, gr.EventData], dict[str, Any]]:
        """The handler for a click on a picture of a row."""

        def choose(model: str, event: gr.EventData) -> dict[str, Any]:
            found = self.starts.of_kind(kind)
            index = chosen_index(event, len(found))
            if index is None:
                raise refusal(ValueError("This start was not found."))
            return self._value(model, found[index])

        return choose

    def new_scene(self, model: str) -> dict[str, Any]:
        """A scene that the model itself makes."""
        return self._value(model, self.starts.get(NEW_SCENE))

    def change_model(self, model: str) -> tuple[dict[str, Any], gr.Button]:
        """Another model plays on from where it stands."""
        value = self._value(model, None)
        label, is_shown = self._instead(value)
        return value, gr.Button(label, visible=is_shown)

    def _instead(self, value: dict[str, Any]) -> tuple[str, bool]:
        """(label of the button that chooses a model with keys, whether to show it)."""
        other = self.session.model_with_keys()
        return f"Play with {other}", bool(value["why"]) and other is not None

    def take_photo(self, model: str, path: str, crop: float, request: gr.Request) -> dict[str, Any]:
        """A visitor's own photograph, from where its square lies."""
        with refusals():
            return self._value(
                model, self.starts.add_photograph(path, crop, request.session_hash or "")
            )

    def replay(self, model: str, path: str, request: gr.Request) -> tuple[dict[str, Any], None]:
        """A recording, from its file or from a clip that holds one; the next may be dropped."""
        with refusals():
            recording = read_recording(Path(path))
            start = self.starts.add_recording(recording, owner=request.session_hash or "")
            return self._value(model, start), None

    def save(self, model: str, job_id: str, event: gr.EventData) -> Updates:
        """Queues the clip of a recording that the page has received from its player. `job_id` is
        of the clip before: the page follows and stops only one."""
        with refusals():
            before = self.session.jobs.get(job_id)
            if before is not None and not before.state.is_final and not before.stop.is_set():
                raise ValueError("A clip is being made. Stop it or wait for it, then save again.")
            job = self._submit(model, event._data)
        return self.follower.follow(job)

    def _submit(self, model: str, data: Any) -> Job:
        start_id = data.get("id") if isinstance(data, dict) else None
        start = self.starts.get(str(start_id))
        if start.recording is None:
            raise ValueError("Nothing has been played yet.")
        # Another model may have been chosen at the top since, even one without keys.
        work = partial(saved.run, self.session, start.model or model, start.recording)
        return self.session.jobs.submit(work)

    def last_frames(self, job_id: str) -> str:
        """The clip that Generate continues: the last five frames of the play that was saved."""
        view = self.session.jobs.view(job_id)
        made: Saved | None = view.result if view is not None else None
        if made is None or not made.is_there:
            raise refusal(ValueError(saved.GONE))
        return uploads.as_upload(self.session, made.last_frames)

    def draw(self, view: JobView) -> Updates:
        """How the clip stands."""
        made: Saved | None = view.result
        is_there = made is not None and made.is_there
        updates: Updates = {
            self.status: saved.status(view),
            self.result: gr.Row(visible=is_there),
            self.halt: gr.Button(
                interactive=not view.state.is_final, visible=not view.state.is_final
            ),
        }
        if made is not None and is_there:
            updates |= {self.clip: str(made.clip), self.file: str(made.recording)}
        return updates
