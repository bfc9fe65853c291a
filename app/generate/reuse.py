"""What Generate does with a clip that exists: open it, continue it, restore its settings."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.clips.kept import find_clip
from app.generate.gallery import MANY
from app.generate.restore import restore
from app.library import KeptClip
from app.parts.events import OWN, Updates, refusal, refusals
from app.parts.follow import NOTHING_SEEN
from app.parts.uploads import as_upload
from nbp_core.config.json import reason

if TYPE_CHECKING:
    from app.generate.tab import GenerateTab

_GONE = "This clip was deleted."
_UNCHANGED = "The folder of clips cannot be changed"
_TOO_SHORT = "This clip has fewer than five frames; continue from its last frame instead."


class Reuse:
    """Wires the gallery, the buttons that continue and the upload that restores."""

    def __init__(self, tab: GenerateTab) -> None:
        self.tab = tab
        self.session = tab.session
        page = self.page = tab.page
        follower = page.follower
        job_id = follower.job_id
        filled = [*tab.inputs(), page.facts, page.settings_file, page.restored]
        page.past.gallery.select(
            self.act, [job_id, page.past.limit],
            [job_id, page.past.limit, *follower.shown, *filled], **OWN,
        )  # fmt: skip
        going = [page.begun, job_id, *tab.inputs()]
        changed = [*tab.inputs(), job_id, *follower.shown]
        page.again.click(tab.alone(self.go_on_from_frame), going, changed, **OWN)
        page.again_five.click(tab.alone(self.go_on_from_clip), going, changed, **OWN)
        restored = page.settings_file.upload(self.restore, page.settings_file, filled, **OWN)
        restored.failure(lambda: (None, ""), None, [page.settings_file, page.restored], **OWN)

    def act(self, job_id: str, limit: int, chosen: gr.EventData) -> Updates:
        """Follows a click on a card's button; `chosen` brings {'act': which, 'id': of the clip}."""
        past, library = self.page.past, self.session.library
        data = chosen._data if isinstance(chosen._data, dict) else {}
        act, clip = str(data.get("act")), library.get(str(data.get("id")))
        if act == "all":
            return {past.limit: MANY, **past.updates(job_id, MANY)}
        if clip is None:
            # A note and not an error: its card is taken away.
            gr.Warning(_GONE, title="")
            return past.updates(job_id, limit)
        if act == "open":
            return self.open(job_id, clip.id)
        if act == "use":
            return self.use(clip)
        try:
            if act in ("pin", "unpin"):
                library.pin(clip, act == "pin")
            elif act == "delete":
                library.delete(clip)
                self.session.jobs.forget(clip.id)
        except OSError as error:
            raise refusal(ValueError(f"{_UNCHANGED}: {reason(error)}.")) from error
        return past.updates(job_id, limit)

    def show(self, job_id: str, chosen: gr.EventData) -> Updates:
        """Opens a clip that was chosen on another tab; `chosen` brings {'id': of the clip}."""
        data = chosen._data if isinstance(chosen._data, dict) else {}
        return self.open(job_id, str(data.get("id")))

    def open(self, job_id: str, clip_id: str) -> Updates:
        """Shows a past clip as if it had just been made."""
        view = self.session.jobs.view(job_id)
        if view is not None and not view.state.is_final:
            sentence = "A run is in progress. Stop it or let it finish before opening another clip."
            raise refusal(ValueError(sentence))
        with refusals():
            if find_clip(self.session, clip_id) is None:
                raise ValueError(_GONE)
        follower = self.page.follower
        return {follower.job_id: clip_id, **follower.poll(clip_id, NOTHING_SEEN)}

    def use(self, clip: KeptClip) -> Updates:
        """Fills the page with the settings of a clip."""
        with refusals():
            view = find_clip(self.session, clip.id)
        if view is None:
            raise refusal(ValueError(_GONE))
        filled, note = self._filled(view.result.settings)
        gr.Info(note, title="")
        return filled | {self.page.restored: ""}

    def go_on_from_frame(self, job_id: str, *values: Any) -> Updates:
        """Generates a clip whose first frame is the last of this one."""
        picture = self._file(job_id, "last_frame")
        return self.tab.begin_with(values, {"start": "frame", "picture": picture})

    def go_on_from_clip(self, job_id: str, *values: Any) -> Updates:
        """Generates a clip whose first five frames are the last of this one."""
        clip = self._file(job_id, "last_frames")
        return self.tab.begin_with(values, {"start": "clip", "clip": clip})

    def _file(self, job_id: str, kind: str) -> str:
        with refusals():
            view = find_clip(self.session, job_id)
        if view is None or view.result is None:
            raise refusal(ValueError(_GONE))
        path: Path | None = getattr(view.result, kind)
        if path is None or not path.is_file():
            raise refusal(ValueError(_TOO_SHORT if path is None else _GONE))
        return as_upload(self.session, path)

    def restore(self, path: str) -> Updates:
        """Fills the page with the settings in a file."""
        filled, note = self._filled(path)
        return filled | {
            self.page.settings_file: None,
            self.page.restored: f'<p role="status">{escape(note)}</p>',
        }

    def _filled(self, path: str | Path) -> tuple[Updates, str]:
        """(the controls with the settings in a file, a line on what could not be restored)."""
        with refusals():
            restored = restore(self.session, path)
            return self.tab.fill(restored.values), restored.note
