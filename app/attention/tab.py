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

from app.attention import clips
from app.attention.api import offer_api
from app.attention.asked import Asked
from app.attention.clips import UPLOAD, Clip
from app.attention.kept import Kept, OwnClips, read_kept
from app.attention.opened import Views
from app.attention.page import OWN_CLIP, AttentionPage
from app.attention.shown import Choice, Shown, block_words, open_choice, open_clip
from app.attention.study import Find, attention_chart, finds, study_of, study_text
from app.parts import controls
from app.parts.events import LAST, LIGHT, OWN, Updates, refusal, refusals, when
from app.parts.follow import Follower
from app.parts.status import line
from app.session import Session
from nbp_core.attention_maps.pictures import parse_head
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
        tab.select(
            self.enter, [*source, page.asked, *listed], [page.clip, page.newest, *opened], **slow
        )
        studied = [page.study, page.study_text]
        tab.select(self.read_study, page.model, studied, **LIGHT)
        when([page.model.input], self.read_study, page.model, studied, **LIGHT)
        chosen_clip = [page.clip, page.upload, page.crop, page.beside, page.asked]
        opening = [*source, page.asked]
        for event in (page.clip.input, page.upload.upload):
            kept = event(self.keep_new, chosen_clip, page.kept, **LIGHT, **LAST)
            kept.then(self.open, opening, opened, **last)
        page.crop.input(self.move_crop, opening, opened, **last)
        when([page.model.input], self.follow_model, [*opening, page.shown], opened, **slow)
        viewed = [*chosen, page.asked, page.accepted]
        changed = [*seen, page.heads, page.accepted, page.beside, *settings, *page.finds]
        changes = [part.input for part in (page.beside, page.action, page.block)]
        changes += [page.layer.input, page.head.input, page.heads.select]
        # The browser names the head itself: an answer could undo what is chosen meanwhile.
        named = "() => [window.nbpHead.layer + 1, `${window.nbpHead.head + 1}`]"
        page.heads.select(None, None, [page.layer, page.head], js=named, **LIGHT)
        when(changes, self.show, viewed, changed, **slow)
        heads = [page.layer, page.head, page.asked]
        when([page.layer.input, page.head.input], self.choose_head, heads, None, **LIGHT)
        for index, button in enumerate(page.finds):
            button.click(partial(self.pick_find, index), viewed, changed, **last)
        asked = [*chosen, page.asked]
        # Gradio repeats an event with its first data; the browser fills in the last.
        fill = "(...values) => [...values.slice(0, -1), window.nbpQuery]"
        for picture in (page.map, page.look):
            picture.select(
                self.pick_query, [*asked, page.picked], [page.look, page.place], js=fill,
                **OWN, **LAST,
            )  # fmt: skip
        page.export.click(self.make_files, asked, [page.files, *page.downloads.values()], **slow)

    def enter(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        model: str | None,
        beside: bool,
        asked: Asked,
        made: str,
        newest: str | None,
        shown: tuple[str, str],
        kept: dict[str, Any] | None,
    ) -> Iterator[Updates]:
        """Coming to the tab: a clip just made is opened, else what was there stays, or what was
        there before the page was loaded anew."""
        page = self.page
        choices = clips.choices(self.session, made)
        keys, offered = [key for _, key in choices], [*choices, OWN_CLIP]
        latest = clips.first(self.session, made)
        chosen = key if key in (*keys, UPLOAD) and latest == newest else latest
        updates: Updates = {
            page.clip: controls.refitted(gr.Dropdown, offered, chosen or None, key),
            page.newest: latest,
        }
        is_reloaded = tuple(shown) == NOTHING_SHOWN and latest == newest
        again = read_kept(kept) if is_reloaded else None
        if again is not None:
            yield {page.measured: self._wait(), page.clip: gr.Dropdown(choices=offered)}
            clip, found = asked.clip(), None
            with suppress(ValueError):  # it was deleted, or does not suit the model
                found = self._find_again(again, model)
            if not asked.end(clip):
                return
            if found is not None:
                chosen_again = gr.Dropdown(choices=offered, value=again.key)
                yield {**updates, **found, page.clip: chosen_again}
                return
        if not chosen:
            yield {**updates, page.measured: line(NO_CLIP)}
            return
        yield updates
        if clips.shown_with(chosen, model) != tuple(shown):
            yield from self.open(chosen, upload, crop, model, beside, asked)

    def keep_new(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        beside: bool,
        asked: Asked,
    ) -> dict[str, Any]:
        """What the browser keeps while a clip is opened: which one, and none of its settings."""
        asked.clip()  # one that is being opened is not shown any more
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
        """Opens what was open. Raises ValueError when that cannot be done any more."""
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
        asked: Asked,
        shown: tuple[str, str],
    ) -> Iterator[Updates]:
        """Another model in the header: it reads the clip anew, if the clip is not its own."""
        if key is None or not shown[0] or clips.shown_with(key, model) == tuple(shown):
            yield {self.page.place: gr.skip()}
        else:
            yield from self.open(key, upload, crop, model, beside, asked)

    def move_crop(self, *values: Any) -> Iterator[Updates]:
        """Another square of the same clip; until it is read, the one before stays."""
        opened, measured = self.open(*values), self.page.measured
        yield {measured: next(opened)[measured]}
        yield from opened

    def open(
        self,
        key: str | None,
        upload: str | None,
        crop: float,
        model: str | None,
        beside: bool,
        asked: Asked,
    ) -> Iterator[Updates]:
        """Another clip, until one after it is chosen: everything starts from its own settings.

        The menu names it already. So until it is opened, and where it cannot be, none is shown.
        """
        page = self.page
        is_own, is_missing = key == UPLOAD, key == UPLOAD and upload is None
        clip = asked.clip()
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
            asked.end(clip)
            return
        choice = Choice(key, upload, crop, model, beside)
        try:
            shown, head = self._new(choice), asked.head
            found = self._found_at(shown, choice, head)
            while asked.head != head:  # another one was chosen while this one was drawn
                head = asked.head
                found = self._found_at(shown, choice, head)
        except ValueError as error:
            if not asked.end(clip):
                return
            yield {page.measured: line(str(error), "failed")}
            raise refusal(error) from error
        if asked.end(clip):
            yield found

    def _wait(self) -> str:
        """What is said until a clip is opened, as HTML."""
        return line(WAITING if self.session.jobs.length else OPENING)

    def _new(self, choice: Choice) -> Shown:
        """A clip opened with its own settings. Raises ValueError, one sentence."""
        clip = clips.find(self.session, choice.key, choice.model, choice.upload, choice.crop)
        return open_clip(self.views, clip, self._block_shapes(clip)[0], choice)

    def choose_head(self, layer: int, head: str, asked: Asked) -> None:
        """What is chosen while a clip is being opened: it is opened with it."""
        if asked.is_opening:
            asked.head = layer, head

    def _found_at(self, shown: Shown, choice: Choice, head: tuple[int, str] | None) -> Updates:
        """The same as _found, with a layer and heads of it where the model has them."""
        if head is not None and shown.has(*head):
            layer, heads = head
            shown = replace(shown, layer=layer - 1, head=parse_head(heads))
            choice = replace(choice, layer=layer, head=heads)
        return self._found(shown, choice)

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
        """What the menus name of the same clip."""
        *chosen, asked, accepted = values
        return self._view(Choice(*chosen), asked, accepted)

    def _view(self, choice: Choice, asked: Asked, accepted: tuple[bool, str, str]) -> Updates:
        """A view of the clip that is open, unless a newer one is asked for meanwhile.

        Other blocks and another action that are refused are set back.
        """
        page, nothing = self.page, {self.page.place: gr.skip()}
        if asked.is_opening:
            return nothing
        asked.views += 1
        now, wanted = asked.now(), (choice.beside, choice.action, choice.block)
        try:
            shown = open_choice(self.session, self.views, choice)
            updates = self._seen(shown, choice)
        except ValueError as error:
            gr.Warning(escape(str(error), quote=False), title="")
            updates = dict(zip((page.beside, page.action, page.block), accepted, strict=True))
        else:
            if wanted != tuple(accepted):
                updates |= {page.heads: shown.heads(), page.accepted: wanted}
                updates |= self._find_buttons(shown)
        return updates if asked.now() == now else nothing

    def pick_find(self, index: int, *values: Any) -> Updates:
        """A head that was named by what it does: it is shown whole."""
        found = self._finds(self._opened(Choice(*values[:-2])))
        if index >= len(found):
            return {self.page.place: gr.skip()}
        *chosen, asked, accepted = values
        layer, head = found[index].layer, str(found[index].head)
        choice = replace(Choice(*chosen), layer=layer, head=head)
        updates = self._view(choice, asked, accepted)
        if self.page.map in updates:
            updates |= {self.page.layer: layer, self.page.head: head}
        return updates

    def _finds(self, shown: Shown) -> list[Find]:
        opened = shown.opened[0]
        view, fingerprint = opened.view, str(opened.identity.get("sha256", ""))
        block = format_block_shape(view.block_shape)
        found = finds(self._results(), shown.clip.model, block, fingerprint)
        return [f for f in found if f.layer <= view.num_layers and f.head <= view.num_heads]

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

    def pick_query(self, *values: Any) -> Updates:
        """A click on a row of a map, or on a token of a frame: its query is followed."""
        *chosen, asked, picked = values
        now, shown = asked.now(), self._opened(Choice(*chosen))
        with refusals():
            shown = replace(shown, place=shown.picked(picked))
            looks = shown.looks()
        if asked.now() != now:
            return {self.page.place: gr.skip()}
        return {self.page.look: looks, self.page.place: shown.place}

    def make_files(self, *values: Any) -> Updates:
        """Writes the map for download."""
        *chosen, asked = values
        now, page = asked.now(), self.page
        shown = self._opened(Choice(*chosen))
        with refusals():
            self.session.make_room()
            paths = shown.write(self.session.uploads)
        if asked.now() != now:
            return {page.files: gr.skip()}  # another map is shown by now
        return {
            page.files: gr.Row(visible=True),
            **{button: str(paths[suffix]) for suffix, button in page.downloads.items()},
        }

    def _opened(self, choice: Choice) -> Shown:
        with refusals():
            return open_choice(self.session, self.views, choice)

    def _seen(self, shown: Shown, choice: Choice) -> Updates:
        """Maps and frames. Raises ValueError for a head or a query that is not there."""
        page = self.page
        began = time.perf_counter()
        maps, looks = shown.maps(), shown.looks()
        return {
            page.map: maps,
            page.look: looks,
            page.measured: line(shown.measured(time.perf_counter() - began)),
            page.place: shown.place,
            page.files: gr.Row(visible=False),
            page.kept: self._keep(choice),
        }
