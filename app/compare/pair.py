"""Any two kept clips side by side: one clock, how they differ, and which settings do."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from app.clips.kept import strip_of
from app.library import KeptClip
from app.parts.controls import hand_over_value, refitted
from app.parts.events import LAST, LIGHT, Updates
from app.parts.made import action_words, clip_line
from app.parts.pictures import file_uri
from app.parts.sources import component_script, template
from app.session import Session
from nbp_core.config.shapes import CLIP_FPS

NOTHING = "<p>Make two clips on the Generate tab to see them side by side here.</p>"
_UNKNOWN = "unknown"
_SETTINGS = {
    "temperature": "temperature", "top_k": "top-k", "top_p": "top-p",
    "guidance_scale": "guidance", "seed": "seed",
}  # fmt: skip


class Pair:
    """Two menus of the kept clips, both clips and their difference."""

    def __init__(self, session: Session) -> None:
        self.session = session
        with gr.Accordion("Two of your clips, side by side", open=False, elem_id="pair-box") as box:
            with gr.Row():
                self.left, self.right = (
                    gr.Dropdown([], label=label, elem_id=f"pair-{name}", filterable=False)
                    for label, name in (("Left clip", "left"), ("Right clip", "right"))
                )
            self.view = gr.HTML(
                {}, html_template=template(__file__, "clock.html", "pair.html"),
                js_on_load=component_script(__file__, "pair.js"), elem_id="pair",
                label="Both clips and their difference",
            )  # fmt: skip
            self.settings = gr.HTML(NOTHING, elem_id="pair-settings", label="Settings that differ")
        for menu in (self.left, self.right):
            hand_over_value(menu)
        self._chosen = [self.left, self.right]
        self._shown = [*self._chosen, self.view, self.settings]
        box.expand(self.show, self._chosen, self._shown, **LIGHT)
        chosen = [menu.input for menu in self._chosen]
        gr.on(chosen, self.show, self._chosen, self._shown, **LIGHT, **LAST)

    def refresh_at(self, tab: gr.Tab) -> None:
        """Renews the menus whenever the visitor comes to the tab."""
        tab.select(self.refresh, self._chosen, self._shown, **LIGHT)

    def refresh(self, left: str | None, right: str | None) -> Updates:
        """Coming to the tab: the menus offer the clips there are, and those that are shown stay."""
        clips = self.session.library.clips()
        if left == right or not {left, right} <= {clip.id for clip in clips}:
            return self.show(left, right)
        choices = [(_name(clip), clip.id) for clip in clips if strip_of(clip)]
        return {menu: gr.Dropdown(choices=choices) for menu in (self.left, self.right)}

    def show(self, left: str | None, right: str | None) -> Updates:
        """The chosen clips, or the first two there are."""
        clips = {clip.id: clip for clip in self.session.library.clips() if strip_of(clip)}
        choices = [(_name(clip), clip.id) for clip in clips.values()]
        if len(clips) < 2:
            menus = {menu: gr.Dropdown(choices=choices) for menu in (self.left, self.right)}
            return {**menus, self.view: {}, self.settings: NOTHING}
        first = left if left in clips else next(one for one in clips if one != right)
        second = right if right in clips else next(one for one in clips if one != first)
        both = [clips[first], clips[second]]
        return {
            self.left: refitted(gr.Dropdown, choices, first, left),
            self.right: refitted(gr.Dropdown, choices, second, right),
            self.view: {"clips": [_shown(clip) for clip in both], "fps": CLIP_FPS},
            self.settings: differences(*both),
        }


def _name(clip: KeptClip) -> str:
    return f"{clip_line(clip.manifest, clip.is_complete)}, {clip.made:%d %b %H:%M:%S}"


def _shown(clip: KeptClip) -> dict[str, Any]:
    strip = strip_of(clip)
    return {"title": _name(clip), "frames": file_uri(strip) if strip else "data:,"}


def differences(left: KeptClip, right: KeptClip) -> str:
    """The settings in which two clips differ, as an HTML table."""
    one, other = _settings(left), _settings(right)
    rows = [(name, one[name], other[name]) for name in one if one[name] != other[name]]
    if not rows:
        return "<p>Both clips have the same settings.</p>"
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(a)}</td><td>{escape(b)}</td></tr>'
        for name, a, b in rows
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("setting", "left", "right"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _settings(clip: KeptClip) -> dict[str, str]:
    manifest = clip.manifest
    sampling = {name: str(manifest["sampling"].get(key)) for key, name in _SETTINGS.items()}
    return {
        "model": clip.model,
        "weights": _print(manifest.get("sha256")),
        "tokenizer weights": _print(manifest.get("tokenizer_sha256")),
        "weight format": str(manifest.get("weight_format") or _UNKNOWN),
        "device": str(manifest.get("device") or _UNKNOWN),
        "action": action_words(manifest),
        "block": manifest["block_shape"],
        "frames": str(clip.num_frames),
        "start": _start(manifest.get("context")),
        **sampling,
    }


def _start(context: dict[str, Any] | None) -> str:
    if not context:
        return "an action"
    count = context["num_frames"]
    words = "a first frame" if count == 1 else f"{count} frames"
    return f"{words}, fingerprint {_print(context.get('sha256'))}"


def _print(sha256: object) -> str:
    return str(sha256 or _UNKNOWN)[:8]
