"""The Tokenizer tab: any picture or clip to tokens and back, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.clips.form import MIDDLE
from app.clips.kept import find_clip
from app.jobs import Job, JobView
from app.parts import controls
from app.parts.api import CALLS, inputs_of
from app.parts.events import LIGHT, OWN, Updates, refusals
from app.parts.follow import Follower, Seen, finish
from app.parts.made import made_clips
from app.session import Session
from app.tokenizer import round_trip, view
from app.tokenizer.page import TokenizerPage
from app.tokenizer.round_trip import RoundTrip, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The choices of a round trip, which a page that is loaded anew finds again; a file has to be
    chosen again."""

    source: Source
    made: str | None
    crop: float


class TokenizerTab:
    """Wires the page to the session; every handler is a method."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        follower: Follower,
        generated: Follower,
    ) -> None:
        """generated: which run Generate shows."""
        self.session = session
        self.page = TokenizerPage(session, blocks, model, follower)
        self._wire(generated)
        self._wire_api()

    def _wire(self, generated: Follower) -> None:
        page = self.page
        shown = [
            page.status, page.result, page.figures, page.frame, page.pair, *page.videos,
            page.maps, page.curve, page.no_clips, *page.downloads.values(),
        ]  # fmt: skip
        follower = page.follower
        follower.start(
            self.draw,
            shown,
            often=[page.status],
            go=[page.go],
            halt=[page.halt],
            idle=lambda: {page.status: view.status(None)},
        )
        page.blocks.load(
            self.come_back, [*follower.asked, generated.job_id],
            [page.source, page.made, page.crop, *follower.shown], **LIGHT,
        )  # fmt: skip
        inputs = [page.model, page.source, page.picture, page.clip, page.made, page.crop]
        page.go.click(self.begin, inputs, [follower.job_id, *follower.shown], **OWN)
        page.source.change(
            self.show_choices, [page.source, generated.job_id, page.made],
            [page.picture_box, page.clip_box, page.made_box, page.made, page.crop], **LIGHT,
        )  # fmt: skip
        for upload in (page.picture, page.clip):
            checked = upload.upload(self.check, upload, None, **OWN)
            checked.failure(lambda: None, None, upload, **LIGHT)
        page.made.focus(self.offer_made, [generated.job_id, page.made], page.made, **LIGHT)
        page.frame.change(self.show_frame, [follower.job_id, page.frame], page.pair, **LIGHT)

    def _wire_api(self) -> None:
        with gr.Row(visible=False):
            button, inputs = gr.Button(), inputs_of({"model": self.page.model.value, "file": None})
            outputs = [gr.File(label="reconstruction"), gr.JSON(label="figures")]
        button.click(
            self.tokenize, inputs, outputs,
            api_name="tokenize", **CALLS,
        )  # fmt: skip

    def tokenize(self, model: str, file: str) -> Iterator[Any]:
        """A picture or clip to tokens and back: the file that came back, and all figures."""
        submit = partial(self._submit, model, "clip", None, file, "")
        stopped = "The round trip was stopped."
        trip: RoundTrip = yield from finish(self.session.jobs, submit, 2, stopped)
        yield str(trip.clip or trip.strip), json.loads(trip.figures.read_text())

    def begin(
        self,
        model: str,
        source: Source,
        picture: str | None,
        clip: str | None,
        made: str | None,
        crop: float = MIDDLE,
    ) -> Updates:
        """Tokenize: reads the material, queues the round trip and makes the page follow it."""
        with refusals():
            job = self._submit(model, source, picture, clip, made, crop)
        return {self.page.result: gr.Column(visible=False), **self.page.follower.follow(job)}

    def _submit(
        self,
        model: str | None,
        source: Source,
        picture: str | None,
        clip: str | None,
        made: str | None,
        crop: float = MIDDLE,
    ) -> Job:
        view = find_clip(self.session, made)
        material = round_trip.read_material(model, source, picture, clip, view, crop)
        work = partial(round_trip.run, self.session, material)
        return self.session.jobs.submit(work, Settings(source=source, made=made, crop=crop))

    def come_back(self, job_id: str, seen: Seen, generated: str) -> Updates:
        """A page that was opened or reloaded finds its round trip and the choices for it."""
        page, view = self.page, self.session.jobs.view(job_id)
        found = page.follower.poll(job_id, seen)
        if view is None or not isinstance(view.request, Settings):
            return found
        chosen = view.request
        choices, made = self._made(generated, chosen.made)
        return {
            page.source: chosen.source,
            page.made: gr.Dropdown(choices=choices, value=made),
            page.crop: chosen.crop,
            **found,
        }

    def draw(self, job: JobView) -> Updates:
        """How the round trip stands, and what came of it."""
        updates: Updates = {self.page.status: view.status(job)}
        if isinstance(job.result, RoundTrip) and job.result.is_there:
            updates |= self._result(job.result)
        return updates

    def _result(self, trip: RoundTrip) -> Updates:
        page = self.page
        is_clip = trip.num_frames > 1
        clips = (trip.original_clip, trip.clip)
        return {
            page.result: gr.Column(visible=True),
            page.figures: view.figures(trip),
            # A slider needs two ends, even one that a picture hides.
            page.frame: gr.Slider(maximum=max(2, trip.num_frames), value=1, visible=is_clip),
            page.pair: view.pair(trip, 1),
            **{
                box: gr.Video(path and str(path), visible=is_clip)
                for box, path in zip(page.videos, clips, strict=True)
            },
            page.maps: view.token_maps(trip),
            page.curve: view.quality_curve(trip),
            page.no_clips: gr.Markdown(visible=not is_clip),
            page.downloads["reconstruction"]: str(trip.clip or trip.strip),
            page.downloads["tokens"]: str(trip.tokens),
            page.downloads["figures"]: str(trip.figures),
        }

    def check(self, path: str) -> None:
        """A file that cannot be read is taken away at once."""
        with refusals():
            round_trip.read_any(path)

    def show_choices(
        self, source: Source, generated: str, made: str | None
    ) -> tuple[gr.Column, gr.Column, gr.Column, gr.Dropdown, gr.Slider]:
        """Shows what belongs to the chosen source."""
        return (
            gr.Column(visible=source == "picture"),
            gr.Column(visible=source == "clip"),
            gr.Column(visible=source == "made"),
            self.offer_made(generated, made),
            gr.Slider(visible=source != "made"),
        )

    def offer_made(self, generated: str, chosen: str | None) -> gr.Dropdown:
        """The clips there are; the chosen one stays chosen while it is there."""
        return controls.refitted(gr.Dropdown, *self._made(generated, chosen), chosen)

    def _made(self, generated: str, chosen: str | None) -> tuple[list[tuple[str, str]], str | None]:
        """(clips to choose from, the chosen one if it is there, else the first)."""
        choices = [(clip.title, clip.id) for clip in made_clips(self.session, generated)]
        ids = [clip_id for _, clip_id in choices]
        return choices, chosen if chosen in ids else next(iter(ids), None)

    def show_frame(self, job_id: str, frame: int) -> Any:
        """The chosen frame before and after."""
        job = self.session.jobs.view(job_id)
        trip = job.result if job is not None else None
        if not isinstance(trip, RoundTrip) or not trip.is_there:
            return gr.skip()
        return view.pair(trip, int(frame))
