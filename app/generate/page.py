"""Layout of the Generate tab: controls left, live view and result right. No behaviour."""

from __future__ import annotations

import gradio as gr

from app.clips.odds import Odds
from app.generate import live
from app.generate.gallery import PastClips
from app.generate.welcome import Welcome
from app.parts import controls, uploads
from app.parts.follow import Begun, Follower
from app.parts.sources import component_script, template
from app.parts.status import counters, status
from app.session import Session


class GeneratePage:
    """Builds the controls on the left and the live view and result on the right."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        facts: gr.HTML,
        follower: Follower,
        odds: Odds,
    ) -> None:
        self.session = session
        self.blocks = blocks
        self.model = model
        self.facts = facts
        self.follower = follower
        self.odds = odds
        self.begun = gr.State(Begun())
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                with gr.Row(elem_id="run", elem_classes="run"):
                    self.go = gr.Button("Generate", variant="primary", elem_id="go")
                    self.halt = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False)
                    self.hold = gr.Button("Pause", elem_id="pause", interactive=False)
                    self.step = gr.Button("Step", elem_id="step", interactive=False)
                self._build_start()
                self._build_settings()
                self._build_restore()
            with gr.Column(scale=4, min_width=340):
                self.welcome = Welcome(self.session, self.model.value)
                self._build_live()
                self._build_result()
                self.past = PastClips(session)

    def _build_start(self) -> None:
        steps = controls.count_steps(self.session, self.model.value, "action", 17)
        actions, favourite = controls.action_menu(self.session, self.model.value, "action")
        self.start = gr.Radio(
            uploads.STARTS, value="action", label="Start from", elem_id="start",
            info="An action by name, a picture, or the first five frames of a clip.",
        )  # fmt: skip
        with gr.Column(visible=False) as self.picture_box:
            self.picture = uploads.picture_upload(
                self.session, "First frame", "picture", "The first frame you chose"
            )
            gr.Markdown(
                "The square is scaled to 128 px. Temperature is set to 0.4, which keeps"
                " photos stable for longer.",
                elem_classes="quiet",
            )
            uploads.offer_examples(self.session, "frame", self.picture, "Photographs to try")
        with gr.Column(visible=False) as self.clip_box:
            self.clip = uploads.clip_upload("Clip to continue", "clip")
            gr.Markdown(uploads.FIVE_FRAMES, elem_classes="quiet")
            uploads.offer_examples(self.session, "clip", self.clip, "Clips to try")
        self.crop = uploads.crop_slider("crop")
        self.action = gr.Dropdown(
            actions, value=favourite,
            label="Action", elem_id="action",
            info="What happens in the clip: a robot arm's task, or a camera move over a photo.",
        )  # fmt: skip
        self.block = gr.Radio(
            controls.block_choices(steps), value=controls.preset_block("Balanced", steps),
            label="Block", elem_id="block",
            info="How many tokens each step writes at once. Larger blocks need fewer steps, as"
            " compared here with the smallest block; smaller ones usually look better. From an"
            " action, the first block is written token by token.",
        )  # fmt: skip

        for choice in (self.action, self.block):
            controls.hand_over_value(choice)

    def _build_settings(self) -> None:
        gr.Markdown("Presets set the block and the sampling settings.", elem_classes="quiet")
        with gr.Row(elem_id="presets"):
            self.presets = {name: gr.Button(name, size="sm") for name in controls.PRESETS}
        sliders = controls.sampling_sliders("Sampling", "Balanced")
        self.temperature, self.top_k, self.top_p, self.guidance = sliders
        self.num_frames = gr.Radio(
            controls.length_choices(), value=17, label="Length", elem_id="length",
            info="Longer clips are made piece by piece. Each piece continues from the frames"
            " before it.",
        )  # fmt: skip
        names = controls.timeline_names(self.session, self.model.value)
        self.actions = gr.Textbox(
            "", label="Several actions, one after the other", elem_id="actions",
            visible=bool(names), placeholder=controls.timeline_example(names) if names else "",
            info="Write each as name*count. The Action menu shows the hyphens of a name as spaces;"
            " a name with spaces of its own needs quotes. One count is a latent frame, which is"
            " four frames of the clip. The list replaces the action above and sets the length.",
        )  # fmt: skip
        with gr.Row(elem_id="seed-row"):
            self.seed = gr.Number(
                42, label="Seed", elem_id="seed", scale=3, min_width=140,
                info="The same seed gives the same clip. Leave it empty for a random one.",
            )  # fmt: skip
            self.dice = gr.Button("New random seed", elem_id="dice", scale=1, min_width=110)

    def _build_restore(self) -> None:
        with gr.Accordion("Restore settings from a file", open=False):
            self.settings_file = gr.File(
                label="A clip or settings file made here", height=170, elem_id="restore",
                file_types=[".mp4", ".gif", ".png", ".npz", ".json"],
            )  # fmt: skip
            uploads.hand_over_path(self.settings_file)
            gr.Markdown(
                "Drop a file exported here (MP4, GIF, PNG, NPZ or JSON). Its settings are restored,"
                " and generating again gives the same frames.",
                elem_classes="quiet",
            )
            self.restored = gr.HTML(elem_id="restored", label="What was restored")

    def _build_live(self) -> None:
        self.status = gr.HTML(status(None), elem_id="status", label="Status")
        view = self.welcome.clip or live.idle_view(controls.DEFAULT_BLOCK, controls.DEFAULT_GRID)
        self.preview = gr.HTML(
            view, html_template=template(__file__, "preview.html"),
            js_on_load=component_script(__file__, "preview.js", asks_server=True),
            server_functions=[self.odds.token_odds], elem_id="preview", label="Clip and tokens",
        )  # fmt: skip
        self.counters = gr.HTML(counters(None), elem_id="counters", label="Counters")

    def _build_result(self) -> None:
        with gr.Column(visible=False, elem_id="result") as self.result:
            with gr.Tabs():
                with gr.Tab("Frames"):
                    self.frames = gr.HTML(elem_id="frames-strip", label="Frames")
                with gr.Tab("Timing"):
                    self.plot = gr.Plot(show_label=False, elem_id="timing")
                with gr.Tab("Settings"):
                    self.manifest = gr.HTML(elem_id="manifest", label="Settings")
            with gr.Row():
                self.downloads = {
                    name: gr.DownloadButton(label, size="sm", min_width=90, elem_id=f"get-{name}")
                    for name, label in (
                        ("clip", "MP4"), ("gif", "GIF"),
                        ("strip", "PNG strip"), ("tokens", "Tokens (NPZ)"),
                        ("settings", "Settings (JSON)"),
                    )
                }  # fmt: skip
            with gr.Row():
                self.again = gr.Button("Continue from the last frame", size="sm", elem_id="again")
                self.again_five = gr.Button(
                    "Continue from the last five frames", size="sm", elem_id="again-five"
                )
            self.measured = gr.Markdown(elem_id="measured")
