"""The page: header, tabs in order, footer; and how it is served."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.attention.tab import AttentionTab
from app.blocks.tab import BlocksTab
from app.compare.tab import CompareTab
from app.folders import MendsUploads
from app.generate.page import GeneratePage
from app.generate.tab import GenerateTab
from app.guard import guards
from app.models.tab import ModelsTab
from app.parts import controls
from app.parts.uploads import MAX_UPLOAD
from app.results.tab import ResultsTab
from app.security import check_host
from app.session import Session, no_model
from app.theme import css, theme
from app.tokenizer.tab import TokenizerTab

_DAY = 86_400

_ABOUT = """
<details><summary>About</summary>
<p>NBP Studio makes short videos one <em>block</em> of tokens at a time. A tokenizer turns a clip of
17 frames into a grid of 5 x 16 x 16 tokens; a transformer then writes that grid. Next-token
prediction writes one token in each step. Next-block prediction writes a row, or a whole frame, and
so needs far fewer steps.</p>
<p>Everything runs on this machine, and nothing leaves it. Every clip is generated, and carries the
settings that made it.</p></details>
"""

# Gradio shows the examples of an upload as buttons with a picture or a film and no name.
_NAME_EXAMPLES = """() => {
  const name = () => {
    for (const button of document.querySelectorAll('.gallery-item:not([aria-label])')) {
      const shown = button.querySelector('[src]');
      if (shown) button.setAttribute('aria-label', 'Example ' + shown.src.split('/').pop());
    }
  };
  name();
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
}"""


def build(session: Session) -> gr.Blocks:
    """The whole page, not yet served."""
    blocks = gr.Blocks(
        title="NBP Studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, _DAY)
    )
    with blocks:
        names, first = session.model_names(), session.first_model()
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>NBP Studio</h1>", elem_id="title", label="Title", min_width=150)
            model = gr.Dropdown(
                [*names, *session.speed_only_names()], value=first,
                label="Model", elem_id="model", scale=0, min_width=190, filterable=False,
            )  # fmt: skip
            controls.hand_over_value(model)
            facts = gr.HTML(_first_facts(session, first), elem_id="model-facts", label="Facts")
            gr.HTML(_ABOUT, elem_id="about", label="About", min_width=120)
        with gr.Tabs():
            with gr.Tab("Generate"):
                page = GeneratePage(session, blocks, model, facts)
                GenerateTab(session, page)
            with gr.Tab("Compare"):
                CompareTab(session, blocks, model)
            with gr.Tab("Attention") as attention:
                AttentionTab(session, attention, model)
            with gr.Tab("Tokenizer"):
                TokenizerTab(session, blocks, model)
            with gr.Tab("Blocks") as shapes:
                BlocksTab(session, blocks, model, shapes)
            with gr.Tab("Results") as results:
                ResultsTab(session, results)
            with gr.Tab("Models"):
                ModelsTab(session, blocks, model)
        blocks.load(None, js=_NAME_EXAMPLES, api_visibility="private")
    blocks.queue(max_size=64, default_concurrency_limit=None)
    return blocks


def _first_facts(session: Session, name: str | None) -> str:
    if name is None:
        return escape(no_model(None, session.models))
    try:
        return controls.facts(session.pipeline(name))
    except ValueError as error:
        return escape(str(error))


def launch(
    blocks: gr.Blocks,
    host: str,
    port: int | None,
    auth: tuple[str, str] | None,
    *,
    root_path: str | None = None,
    trusted_hosts: Sequence[str] = (),
    **options: Any,
) -> str:
    """Serves the page and returns its address; waits for Ctrl+C by default.

    root_path and trusted_hosts: where a reverse proxy serves the studio, and under which names.
    """
    check_host(host, auth)
    _, url, _ = blocks.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        auth=auth,
        root_path=root_path,
        share=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD,
        footer_links=["api", "settings"],
        theme=theme(),
        css=css(),
        app_kwargs={"middleware": [*guards(host, trusted_hosts), Middleware(MendsUploads)]},
        **options,
    )
    return url
