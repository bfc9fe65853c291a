"""The page: header, tabs in order, footer; and how it is served."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from app.attention.tab import AttentionTab
from app.clips.form import Start
from app.clips.odds import Odds
from app.compare.tab import CompareTab
from app.folders import MendsUploads
from app.generate.page import GeneratePage
from app.generate.tab import GenerateTab
from app.guard import guards
from app.how.tab import HowTab
from app.models.tab import ModelsTab
from app.parts import controls
from app.parts.api import WRONG_CALLS, leave_room_for_pages, refuse_downloads, refuse_wrong_values
from app.parts.events import LIGHT, OWN, Updates
from app.parts.follow import Follower, Seen
from app.parts.sources import page_script
from app.parts.thumbs import route as thumbs_route
from app.parts.uploads import MAX_UPLOAD
from app.play.socket import route as play_route
from app.play.tab import PlayTab
from app.results.tab import ResultsTab
from app.security import check_host
from app.session import Session, no_model
from app.shortcuts import leave_out_servers
from app.theme import css, theme
from app.tokenizer.tab import TokenizerTab

MAX_PAGES = 200
"""Pages and calls whose state is kept; the least recent goes first. By default Gradio keeps a copy
of the whole page, 0.8 MB, for each of 10,000, also once it is closed."""


def _id(name: str) -> str:
    """The name of a tab in the page's address."""
    return name.lower().replace(" ", "-")


_TABS = (
    "Generate", "Play", "Compare", "Attention", "How it works", "Tokenizer", "Results", "Models",
)  # fmt: skip
_IDS = tuple(_id(name) for name in _TABS)
_beside: WeakKeyDictionary[gr.Blocks, list[BaseRoute]] = WeakKeyDictionary()
"""Routes beside the page: the WebSocket of its players, small pictures."""

_ABOUT = """
<details><summary>About</summary>
<p>NBP Studio makes short videos one <em>block</em> of tokens at a time. A tokenizer turns a clip of
17 frames into a grid of 5 x 16 x 16 tokens; a transformer then writes that grid. Next-token
prediction writes one token in each step. Next-block prediction writes a row, or a whole frame, and
so needs far fewer steps.</p>
<p>Everything runs on this machine, and nothing leaves it. Every clip is generated, and carries the
settings that made it.</p></details>
"""


_TOUR = '<button type="button" id="tour-open">Tour</button>'


def build(session: Session) -> gr.Blocks:
    """The whole page, not yet served."""
    with leave_out_servers():
        return _build(session)


def _build(session: Session) -> gr.Blocks:
    # Without delete_cache: a page may show its files for days. The session bounds their size.
    blocks = gr.Blocks(title="NBP Studio", analytics_enabled=False, fill_width=True)
    with blocks:
        names, first = session.model_names(), session.first_model()
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>NBP Studio</h1>", elem_id="title", label="Title", min_width=150)
            model = gr.Dropdown(
                [*names, *session.speed_only_names()], value=first,
                label="Model", elem_id="model", scale=0, min_width=270, filterable=False,
            )  # fmt: skip
            controls.hand_over_value(model)
            facts = gr.HTML(_first_facts(session, first), elem_id="model-facts", label="Facts")
            gr.HTML(_TOUR, elem_id="tour", label="Tour", min_width=60)
            gr.HTML(_ABOUT, elem_id="about", label="About", min_width=120)
        # Beside the tabs: the browser keeps nothing of a tab that was not opened yet.
        job, play, race, trip, speeds, conversion, grid = (
            Follower(session.jobs, name, seconds)
            for name, seconds in (
                ("job", 0.25), ("play", 0.5), ("race", 0.5), ("tokenizer", 0.25), ("speeds", 0.5),
                ("models", 0.5), ("grid", 0.5),
            )
        )  # fmt: skip
        looked_at, newest = (
            gr.BrowserState(None, storage_key=f"nbp-studio-{name}", secret="nbp-studio")
            for name in ("attention", "attention-newest")
        )
        odds = Odds(session)
        with gr.Tabs() as tabs:
            with _tab("Generate"):
                page = GeneratePage(session, blocks, model, facts, job, odds)
                generated = GenerateTab(session, page)
            with _tab("Play"):
                played = PlayTab(session, blocks, model, play)
            with _tab("Compare") as compare:
                compared = CompareTab(session, blocks, model, race, grid)
                compared.page.pair.refresh_at(compare)
            with _tab("Attention") as attention:
                AttentionTab(session, attention, model, looked_at, newest, job)
            with _tab("How it works") as how:
                HowTab(session, blocks, model, how, tabs, job, speeds, odds)
            with _tab("Tokenizer"):
                TokenizerTab(session, blocks, model, trip, job)
            with _tab("Results") as results:
                ResultsTab(session, results)
            with _tab("Models"):
                models = ModelsTab(session, blocks, model, conversion)
        page.welcome.race.click(lambda: gr.Tabs(selected="compare"), None, tabs, **LIGHT).then(
            None, js="() => window.nbpPress('race-go')", **LIGHT
        )
        chosen = played.instead.click(session.model_with_keys, None, model, **OWN)
        chosen.success(*generated.menus[1], **LIGHT)
        chosen.success(generated.facts_of, model, facts, **OWN)
        models.renewed.then(partial(_first_facts, session), model, facts, **LIGHT)
        for menu in (*generated.menus, *played.menus, *compared.menus):
            models.renewed.then(*menu, **LIGHT)
        played.go_on.click(
            lambda job_id: ("clip", played.last_frames(job_id), gr.Tabs(selected="generate")),
            play.job_id, [page.start, page.clip, tabs], **OWN,
        )  # fmt: skip
        compared.grid.page.cells.select(
            generated.reuse.show, job.job_id, [job.job_id, *job.shown], **OWN
        ).success(lambda: gr.Tabs(selected="generate"), None, tabs, **LIGHT).then(
            None, js="() => window.nbpFocusClip()", **LIGHT
        )
        _find_race_again(generated, compared)
        blocks.load(None, js=page_script(__file__, "studio.js"), api_visibility="private")
        blocks.load(_addressed, None, tabs, **LIGHT)
    refuse_wrong_values(blocks)
    refuse_downloads()
    # After every event Gradio computes figures of all of them, which nobody reads. The queue takes
    # this when it is made.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    # By default whoever posts to /run/NAME goes past the queue and its limit.
    blocks.queue(default_concurrency_limit=None, api_open=False)
    leave_room_for_pages(blocks)
    _beside[blocks] = [play_route(played.players), thumbs_route(session.assets)]
    return blocks


def _tab(name: str) -> gr.Tab:
    """A tab that puts its name into the address: a reload, a link and Back find it again."""
    tab = gr.Tab(name, id=_id(name))
    tab.select(None, js=f"() => window.nbpOpened('{_id(name)}')", **LIGHT)
    return tab


def _find_race_again(generated: GenerateTab, compared: CompareTab) -> None:
    """A page that is loaded anew finds the settings of its race after those of its clip.

    Where Compare is the open tab, the model is that of the race, and Generate follows.
    """
    page, race = generated.page, compared.page.follower
    model, (_, (refit, fitting, fitted)) = page.model, generated.menus

    def come_back(
        chosen: str,
        start: Start,
        action: str,
        actions: str,
        job_id: str,
        seen: Seen,
        grid_id: str,
        request: gr.Request,
    ) -> Updates:
        is_open = request.query_params.get("tab") == "compare"
        found = compared.come_back(chosen, job_id, seen, grid_id, is_open)
        if found.get(model, chosen) == chosen:
            return found
        return {**found, **refit(found[model], start, action, actions)}

    # Last the model's facts: the page does not wait until it is loaded.
    generated.came_back.then(
        come_back,
        [*fitting, *race.asked, compared.grid.follower.job_id],
        [*compared.found_again, *fitted], **LIGHT,
    ).then(generated.facts_of, model, page.facts, **OWN)  # fmt: skip


def _addressed(request: gr.Request) -> Any:
    """The tab that the address names; without one the visitor's own choice stays."""
    tab = request.query_params.get("tab")
    return gr.Tabs(selected=tab) if tab in _IDS else gr.skip()


def _first_facts(session: Session, name: str | None) -> str:
    if name is None:
        return escape(no_model(None, session.models))
    try:
        return controls.first_facts(session.offer(name))
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
        state_session_capacity=MAX_PAGES,
        footer_links=["api", "settings"],
        theme=theme(),
        css=css(),
        # Otherwise Gradio gives up if the first page takes three seconds, as on a busy machine. It
        # has reached its own address before, without a limit of time.
        _frontend=False,
        app_kwargs={
            "middleware": [*guards(host, trusted_hosts), Middleware(MendsUploads)],
            "exception_handlers": WRONG_CALLS,
            "routes": _beside[blocks],
        },
        **options,
    )
    return url
