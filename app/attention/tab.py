"""The Attention tab: what happens when its controls are used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from app.attention import clips
from app.attention.api import offer_api
from app.attention.clips import UPLOAD, Clip
from app.attention.kept import Kept, OwnClips
from app.attention.opened import Views
from app.attention.page import OWN_CLIP, AttentionPage
from app.attention.shown import Choice, Shown, block_words, open_choice, open_clip
from app.attention.study import Find, attention_chart, finds, study_of, study_text
from app.parts import controls
from app.parts.events import LAST, LIGHT, OWN, Updates, refusal, refusals, when
from app.parts.follow import Follower
from app.parts.status import line
from app.session import Session
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.results.files import ResultFile, read_results

NOTHING_SHOWN = ("", "")
NO_CLIP = "No clip yet. Make one on the Generate tab or choose a file of your own."
NO_FILE = "No file yet. Choose one as your clip."
WAITING = "Waiting for the current run to finish. Then the clip is opened."
OPENING = "Opening the clip..."


class AttentionTab:
    """Wires the page to the session; every handler is a method."""

    def __init__(
        self,
        session: Session,
        tab: gr.Tab,
        model: gr.Dropdown,
        kept: gr.BrowserState,
        newest: gr.BrowserState,
        made: Follower,
    ) -> None:
        """kept, newest: stand beside the tabs, since a browser keeps nothing of a tab that is not
        open. made: which run Generate shows."""
        self.session = session
        self.own = OwnClips()
        self.views = Views(session)
        self.page = AttentionPage(model, kept, newest)
        self._wire(tab, made)
        self.attention = offer_api(session, self.views)

    def _wire(self, tab: gr.Tab, made: Follower) -> None:
        page = self.page
        source = [page.clip, page.upload, page.crop, page.model, page.beside]
        settings = [page.action, page.block, page.layer, page.head]
        chosen = [*source, *settings, page.place]
        seen = [page.map, page.look, page.measured, page.place, page.files, page.kept]
        opened = [
            page.upload, page.crop, page.shown, page.beside, *settings, *seen, page.heads,
            page.accepted, *page.finds,
        ]  # fmt: skip
        listed = [made.job_id, page.newest, page.shown, page.kept]
        slow = {**OWN, "show_progress": "minimal", "show_progress_on": [page.map]}
        last = {**slow, **LAST}
        tab.select(self.enter, [*source, *listed], [page.clip, page.newest, *opened], **slow)
        studied = [page.study, page.study_text]
        tab.select(self.read_study, page.model, studied, **LIGHT)
        when([page.model.input], self.read_study, page.model, studied, **LIGHT)
        chosen_clip = [page.clip, page.upload, page.crop, page.beside, page.chosen]
        for event in (page.clip.input, page.upload.upload):
            kept = event(self.keep_new, chosen_clip, page.kept, **LIGHT, **LAST)
            kept.then(self.open_new, [*source, page.chosen], opened, **last)
        page.crop.input(self.move_crop, source, opened, **last)
        when([page.model.input], self.follow_model, [*source, page.shown], opened, **slow)
        changes = [page.beside.input, page.action.input, page.block.input]
        accepted = [page.accepted, page.beside, page.action, page.block]
        changed = [*seen, page.heads, *accepted, *page.finds]
        gr.on(changes, self.show, [*chosen, page.accepted], changed, **last)
        for index, button in enumerate(page.finds):
            button.click(
                partial(self.pick_find, index), chosen, [page.layer, page.head, *seen], **last
            )
        gr.on([page.layer.input, page.head.input], self.show_head, chosen, seen, **last)
        page.heads.select(self.pick_head, chosen, [page.layer, page.head, *seen], **OWN, **LAST)
        for picture in (page.map, page.look):
            picture.select(self.pick_query, chosen, [page.look, page.place], **OWN, **LAST)
        page.export.click(self.make_files, chosen, [page.files, *page.downloads.values()], **slow)

    def enter(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        model: str | None,
        beside: bool,
        made: str,
        newest: str | None,
        shown: tuple[str, str],
        kept: dict[str, Any] | None,
    ) -> Iterator[Updates]:
        """Coming to the tab: a clip just made is opened, else what was there stays, or what was
        there before the page was loaded anew."""
        page = self.page
        choices = clips.choices(self.session, made)
        keys = [key for _, key in choices]
        latest = clips.first(self.session, made)
        chosen = key if key in (*keys, UPLOAD) and latest == newest else latest
        updates: Updates = {
            page.clip: gr.Dropdown(choices=[*choices, OWN_CLIP], value=chosen or None),
            page.newest: latest,
        }
        is_reloaded = tuple(shown) == NOTHING_SHOWN and latest == newest
        again = _read_kept(kept) if is_reloaded else None
        if again is not None:
            yield {page.measured: self._wait()}
            with suppress(ValueError, gr.Error):  # it was deleted, or does not suit the model
                found = self._find_again(again, model)
                chosen_again = gr.Dropdown(choices=[*choices, OWN_CLIP], value=again.key)
                yield {**updates, **found, page.clip: chosen_again}
                return
        if not chosen:
            yield {**updates, page.measured: line(NO_CLIP)}
            return
        yield updates
        if clips.shown_with(chosen, model) != tuple(shown):
            yield from self.open(chosen, upload, crop, model, beside)

    def keep_new(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        beside: bool,
        chosen: list[str | None],
    ) -> dict[str, Any]:
        """What the browser keeps while a clip is opened: which one, and none of its settings."""
        chosen.append(key)
        return self._keep(Choice(key, upload, crop, None, beside))

    def _keep(self, choice: Choice) -> dict[str, Any]:
        """A choice as the browser stores it."""
        return Kept(
            key=choice.key or "",
            own=self.own.name(choice.upload) if choice.key == UPLOAD else "",
            crop=choice.crop,
            beside=choice.beside,
            action=choice.action,
            block=choice.block,
            layer=choice.layer,
            head=choice.head,
        ).to_dict()

    def _find_again(self, kept: Kept, model: str | None) -> Updates:
        """Opens what was open. Raises ValueError or gr.Error when that cannot be done any more."""
        page = self.page
        upload = self.own.path(kept.own)
        if kept.key == UPLOAD and upload is None:
            raise ValueError("This clip was deleted. Choose another one.")
        choice = Choice(
            kept.key, upload, kept.crop, model, kept.beside, kept.action, kept.block, kept.layer,
            kept.head,
        )  # fmt: skip
        is_whole = bool(kept.block)
        shown = open_choice(self.session, self.views, choice) if is_whole else self._new(choice)
        found = self._found(shown, choice)
        box = gr.Video(upload, visible=True) if kept.own else gr.Video(visible=False)
        slider = gr.Slider(value=kept.crop, visible=bool(kept.own))
        return {**found, page.upload: box, page.crop: slider, page.beside: kept.beside}

    def read_study(self, model: str | None) -> Updates:
        """Where a model's heads look over many clips, from the file that was measured."""
        page, study = self.page, study_of(self._results(), model)
        chart = None if study is None else attention_chart(study)
        return {
            page.study: gr.Plot(chart, visible=chart is not None),
            page.study_text: study_text(study),
        }

    def follow_model(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        model: str | None,
        beside: bool,
        shown: tuple[str, str],
    ) -> Iterator[Updates]:
        """Another model in the header: it reads the clip anew, if the clip is not its own."""
        if key is None or not shown[0] or clips.shown_with(key, model) == tuple(shown):
            yield {self.page.place: gr.skip()}
        else:
            yield from self.open(key, upload, crop, model, beside)

    def move_crop(self, *values: Any) -> Iterator[Updates]:
        """Another square of the same clip; until it is read, the one before stays."""
        opened, measured = self.open(*values), self.page.measured
        yield {measured: next(opened)[measured]}
        yield from opened

    def open_new(self, *values: Any) -> Iterator[Updates]:
        """Opens a clip that was chosen, until another one is chosen."""
        *source, chosen = values
        count = len(chosen)
        for updates in self.open(*source):
            if len(chosen) > count:
                return
            yield updates

    def open(
        self, key: str | None, upload: str | None, crop: float, model: str | None, beside: bool
    ) -> Iterator[Updates]:
        """Another clip: everything starts from its own settings.

        The menu names it already. So until it is opened, and where it cannot be, none is shown.
        """
        page = self.page
        is_own, is_missing = key == UPLOAD, key == UPLOAD and upload is None
        yield {
            page.upload: gr.Video(visible=is_own),
            page.crop: gr.Slider(visible=is_own),
            page.shown: clips.shown_with(key or "", model),
            **dict.fromkeys((page.map, page.look, page.heads)),
            page.files: gr.Row(visible=False),
            page.measured: line(NO_FILE) if is_missing else self._wait(),
            **{button: gr.Button(visible=False) for button in page.finds},
        }
        if is_missing:
            return
        choice = Choice(key, upload, crop, model, beside)
        try:
            shown = self._new(choice)
        except ValueError as error:
            yield {page.measured: line(str(error), "failed")}
            raise refusal(error) from error
        yield self._found(shown, choice)

    def _wait(self) -> str:
        """What is said until a clip is opened, as HTML."""
        return line(WAITING if self.session.jobs.length else OPENING)

    def _new(self, choice: Choice) -> Shown:
        """A clip opened with its own settings. Raises ValueError, one sentence."""
        clip = clips.find(self.session, choice.key, choice.model, choice.upload, choice.crop)
        return open_clip(self.views, clip, self._block_shapes(clip)[0], choice)

    def _found(self, shown: Shown, choice: Choice) -> Updates:
        """All that the page shows of a clip that was opened, with the menus' offers."""
        page, clip, view = self.page, shown.clip, shown.opened[0].view
        layers = [(f"layer {i + 1} of {view.num_layers}", i + 1) for i in range(view.num_layers)]
        heads = [(f"head {i + 1}", str(i + 1)) for i in range(view.num_heads)]
        whole_layer = [("mean over all heads", "mean"), ("maximum over all heads", "max")]
        blocks = [
            (block_words(s) + (", the clip's own" if s == clip.block_shape else ""),
             format_block_shape(s))
            for s in self._block_shapes(clip)
        ]  # fmt: skip
        actions = controls.action_choices(self.session.pipeline(clip.model).actions)
        action, block = clip.action or "", format_block_shape(view.block_shape)
        return {
            page.shown: clips.shown_with(choice.key or "", choice.model),
            page.action: gr.Dropdown(choices=actions, value=action),
            page.block: gr.Dropdown(choices=blocks, value=block),
            page.layer: gr.Dropdown(choices=layers, value=choice.layer),
            page.head: gr.Dropdown(choices=[*whole_layer, *heads], value=choice.head),
            **self._seen(shown, replace(choice, action=action, block=block)),
            page.heads: shown.heads(),
            page.accepted: (choice.beside, action, block),
            **self._find_buttons(shown),
        }

    def _block_shapes(self, clip: Clip) -> list[Size3]:
        """The clip's own blocks first, then those that its model offers, rows before the rest."""
        offered = self.session.pipeline(clip.model).block_shapes
        first = clip.block_shape or controls.DEFAULT_BLOCK
        known = clip.block_shape is not None or first in offered
        return list(dict.fromkeys(([first] if known else []) + list(offered)))

    def show(self, *values: Any) -> Updates:
        """Other blocks or another action for the same clip; what is refused is set back."""
        page = self.page
        choice = Choice(*values[:-1])
        try:
            shown = open_choice(self.session, self.views, choice)
            seen = self._seen(shown, choice)
        except (ValueError, gr.Error) as error:
            gr.Warning(escape(str(error), quote=False), title="")
            beside, action, block = values[-1]
            return {page.beside: beside, page.action: action, page.block: block}
        accepted = (choice.beside, choice.action, choice.block)
        return {
            **seen, page.heads: shown.heads(), page.accepted: accepted, **self._find_buttons(shown)
        }  # fmt: skip

    def show_head(self, *values: Any) -> Updates:
        """Another head, or all of a layer."""
        choice = Choice(*values)
        return self._seen(self._opened(choice), choice)

    def pick_head(self, event: gr.EventData, *values: Any) -> Updates:
        """A click on a small map: that head is shown whole."""
        layer, head = event._data["layer"] + 1, str(event._data["head"] + 1)
        choice = replace(Choice(*values), layer=layer, head=head)
        seen = self._seen(self._opened(choice), choice)
        return {self.page.layer: layer, self.page.head: head, **seen}

    def pick_find(self, index: int, *values: Any) -> Updates:
        """A head that was named by what it does: it is shown whole."""
        choice = Choice(*values)
        found = self._finds(self._opened(choice))
        if index >= len(found):
            return {}
        layer, head = found[index].layer, str(found[index].head)
        choice = replace(choice, layer=layer, head=head)
        seen = self._seen(self._opened(choice), choice)
        return {self.page.layer: layer, self.page.head: head, **seen}

    def _finds(self, shown: Shown) -> list[Find]:
        block = format_block_shape(shown.opened[0].view.block_shape)
        return finds(self._results(), shown.clip.model, block)

    def _find_buttons(self, shown: Shown) -> Updates:
        found = self._finds(shown)
        buttons = self.page.finds
        return {
            button: gr.Button(found[i].words, visible=True)
            if i < len(found)
            else gr.Button(visible=False)
            for i, button in enumerate(buttons)
        }

    def _results(self) -> list[ResultFile]:
        folder = self.session.results
        return list(read_results(folder)[0]) if folder else []

    def pick_query(self, event: gr.EventData, *values: Any) -> Updates:
        """A click on a row of a map, or on a token of a frame: its query is followed."""
        shown = self._opened(Choice(*values))
        with refusals():
            shown = replace(shown, place=self._picked(shown, event._data))
            looks = shown.looks()
        return {self.page.look: looks, self.page.place: shown.place}

    def make_files(self, *values: Any) -> Updates:
        """Writes the map for download."""
        paths = self._opened(Choice(*values)).write(self.session.uploads)
        page = self.page
        return {
            page.files: gr.Row(visible=True),
            **{button: str(paths[suffix]) for suffix, button in page.downloads.items()},
        }

    def _opened(self, choice: Choice) -> Shown:
        with refusals():
            return open_choice(self.session, self.views, choice)

    def _seen(self, shown: Shown, choice: Choice) -> Updates:
        page = self.page
        began = time.perf_counter()
        with refusals():
            maps, looks = shown.maps(), shown.looks()
        return {
            page.map: maps,
            page.look: looks,
            page.measured: line(shown.measured(time.perf_counter() - began)),
            page.place: shown.place,
            page.files: gr.Row(visible=False),
            page.kept: self._keep(choice),
        }

    def _picked(self, shown: Shown, data: dict[str, Any]) -> int:
        """The place of the token that was clicked, or that the clicked row makes."""
        view = shown.opened[data["pane"]].view
        if "place" in data:
            return int(np.ravel_multi_index(data["place"], view.grid))
        place = int(view.targets_L[data["row"]])
        if place < 0:
            raise ValueError("This position predicts no token. Choose a row further down.")
        return place


def _read_kept(kept: dict[str, Any] | None) -> Kept | None:
    """What the browser kept; None for anything else."""
    try:
        return Kept.from_dict(kept)
    except ValueError:
        return None
