"""Playing in a browser: keys change the picture, and nothing else on the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")
from PIL import Image
from playwright.sync_api import Page, expect

from nbp_core.config.sampling import SamplingConfig
from nbp_core.media.video import read_video
from tests.app.play.test_socket import write_episode
from tests.browser.conftest import PATIENCE_MS, Studio, serve
from tests.browser.visitor import expect_to_fit, open_studio, open_tab
from tests.support.engine import HUES, FakePipeline, add_model, fake_session, session_of

NETWORK = """
window.network = { sockets: [], delay: 0 };
window.WebSocket = class extends WebSocket {
  addEventListener(type, listener) {
    if (type === 'open') network.sockets.push(this);
    super.addEventListener(type, type !== 'message' ? listener : (event) => {
      if (!this.isLost) setTimeout(() => listener(event), network.delay);
    });
  }
};
"""
"""What the studio sends comes late to the page, or not at all over a socket that is lost."""
COLOUR = "c => [...c.getContext('2d').getImageData(64, 64, 1, 1).data.slice(0, 3)]"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("play")
    write_episode(folder / "assets" / "play")
    for name in ("fake", "other"):
        add_model(folder / "models", name)
    session, pipeline = fake_session(folder / "models", assets=folder / "assets")
    for url in serve(session):
        yield Studio(url, pipeline)


@pytest.fixture
def studio(served: Studio) -> Studio:
    """The fake engine: 20 ms for a latent frame of rows."""
    served.pipeline.step_s = 0.02
    served.pipeline.worlds = ("arm", "camera")
    served.pipeline.plays.clear()
    return served


def open_play(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url, "Play")
    expect(page.locator("#play .told")).to_have_text("Press Play, then hold a key.")


def press_play(page: Page) -> None:
    page.locator("#play .go").click()
    expect(page.locator("#play .go")).to_have_text("Pause")
    until_shown(page, 8)


def until_shown(page: Page, count: int) -> None:
    script = f"Number(document.querySelector('#play .picture').dataset.shown || 0) >= {count}"
    page.wait_for_function(script)


def until_key(page: Page, key: str) -> None:
    """Until the picture is of a key's colour."""
    page.wait_for_function(
        "red => document.querySelector('#play .picture').getContext('2d')"
        ".getImageData(64, 64, 1, 1).data[0] === red",
        arg=HUES[key],
    )


def test_keys_change_the_picture_and_do_not_scroll(page: Page, studio: Studio) -> None:
    page.set_viewport_size({"width": 1366, "height": 500})
    open_play(page, studio)
    press_play(page)
    until_key(page, "stay")
    before = page.evaluate("scrollY")
    for code, key in (
        ("ArrowLeft", "left"), ("KeyD", "right"), ("ArrowUp", "away"), ("s", "near"),
        ("PageUp", "up"), ("KeyF", "down"),
    ):  # fmt: skip
        page.keyboard.down(code)
        until_key(page, key)
        page.keyboard.up(code)
        until_key(page, "stay")
    page.keyboard.press("Space")
    until_key(page, "stay+grip")
    expect(page.locator("#play .grip")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    until_key(page, "stay")
    assert page.evaluate("scrollY") == before
    figures = page.locator("#play .figures")
    expect(figures).to_contain_text(
        "16 steps · the model sees the first and the last 4 latent frames"
    )
    expect(figures).to_contain_text("key to picture")


def test_a_key_pressed_in_a_field_is_the_fields(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    seed = page.locator("#play .seed")
    seed.fill("12")
    seed.press("ArrowUp")
    expect(seed).to_have_value("13")
    page.locator("#play .temperature").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#play .temperature + output")).to_have_text("0.65")
    (play,) = studio.pipeline.plays
    page.wait_for_timeout(600)
    assert set(play.pressed) == {"stay"}
    page.locator("#play .single").focus()
    page.keyboard.press("Space")
    expect(page.locator("#play .go")).to_have_text("Play")
    assert page.locator("#play .grip").get_attribute("aria-pressed") == "false"


def test_what_the_pointer_sets_leaves_the_keys_to_the_play(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    stage, block = page.locator("#play .play-stage"), page.locator("#play .block")

    def expect_to_play() -> None:
        expect(stage).to_be_focused()
        page.keyboard.down("ArrowDown")
        until_key(page, "near")
        page.keyboard.up("ArrowDown")
        until_key(page, "stay")

    # The list that a browser opens is not of the page: its end is the event of a change.
    block.dispatch_event("pointerdown")
    block.focus()
    block.select_option("1x4x16")
    expect_to_play()
    expect(block).to_have_value("1x4x16")
    for name in (".temperature", ".guidance"):
        slider = page.locator(f"#play {name}")
        box = slider.bounding_box()
        assert box is not None
        slider.click(position={"x": box["width"] * 0.7, "y": box["height"] / 2})
        expect_to_play()
        chosen = slider.input_value()
        page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
        expect(slider).to_have_value(chosen)  # nothing was changed by this click
        expect_to_play()
    page.locator("#play [data-move=left]").click()
    expect_to_play()
    page.locator("#play .grip").click()
    expect(stage).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#play .grip")).to_have_attribute("aria-pressed", "false")
    with page.expect_download():
        page.locator("#play .keep").click()
    expect_to_play()
    page.locator("#play .film").click()
    expect_to_play()
    page.locator("#play .single").click()
    expect(stage).to_be_focused()


def test_what_keys_set_keeps_the_focus(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    page.locator("#play .picture").click()  # an earlier use of the pointer says nothing
    block = page.locator("#play .block")
    before = block.input_value()
    for name in (".block", ".temperature", ".guidance"):
        page.locator(f"#play {name}").focus()
        page.keyboard.press("ArrowDown" if name == ".block" else "ArrowRight")
        expect(page.locator(f"#play {name}")).to_be_focused()
    expect(block).not_to_have_value(before)
    for name in ("[data-move=left]", ".grip", ".keep", ".film", ".single"):
        page.locator(f"#play {name}").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        expect(page.locator(f"#play {name}")).to_be_focused()


def test_a_key_of_one_world_stops_no_play_of_another(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    Image.new("RGB", (128, 128), "teal").save(tmp_path / "teal.png")
    open_play(page, studio)
    press_play(page)
    page.locator("#play .go").click()
    page.keyboard.press("ArrowLeft")  # asked for by nobody yet
    page.keyboard.down("ArrowUp")
    page.locator("#play-photo input[type=file]").set_input_files(tmp_path / "teal.png")
    expect(page.locator("#play .title")).to_contain_text("your photograph")
    until(page, lambda: len(studio.pipeline.plays[-1].pressed) > 4)
    assert set(studio.pipeline.plays[-1].pressed) == {"still"}
    page.keyboard.up("ArrowUp")
    page.keyboard.down("ArrowUp")
    until_key(page, "pan-up")
    page.keyboard.up("ArrowUp")
    until_key(page, "still")


def test_two_clicks_at_once_are_one_player(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.evaluate("for (const name of ['.go', '.reset', '.reset'])"
                  " document.querySelector(`#play ${name}`).click()")  # fmt: skip
    until_shown(page, 8)
    assert len(sockets) == 1
    assert len(studio.pipeline.plays) == 1


def test_clicks_while_a_play_is_prepared_end_no_connection(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = FakePipeline.play

    def slow(*arguments: Any) -> Any:
        time.sleep(0.8)
        return play(*arguments)

    monkeypatch.setattr(FakePipeline, "play", slow)
    open_play(page, studio)
    page.locator("#play .go").click()
    page.wait_for_timeout(300)
    page.evaluate("for (let i = 0; i < 30; i++) document.querySelector('#play .reset').click()")
    until(page, lambda: len(studio.pipeline.plays) == 2)
    until_shown(page, 8)
    assert len(studio.pipeline.plays) == 2


def test_a_slider_that_is_moved_fast_stays_where_it_was_moved_to(
    page: Page, studio: Studio
) -> None:
    open_play(page, studio)
    press_play(page)
    (play,) = studio.pipeline.plays
    change = play.change

    def slow(sampling: SamplingConfig) -> None:
        time.sleep(0.2)
        change(sampling)

    play.change = slow
    page.locator("#play .temperature").focus()
    for _ in range(18):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#play .temperature + output")).to_have_text("1.50")
    until(page, lambda: play.sampling.temperature == 1.5)
    page.wait_for_timeout(300)
    expect(page.locator("#play .temperature")).to_have_value("1.5")
    assert len(play.changes) < 9, "what was wanted meanwhile is one change"


def test_what_was_refused_is_not_said_for_ever(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_play(page, studio)
    press_play(page)
    with monkeypatch.context() as patch:
        patch.setattr("tests.support.engine.HUES", {})
        expect(page.locator("#play .told")).to_contain_text("fault in the studio")
    expect(page.locator("#play .go")).to_have_text("Play")
    page.locator("#play .go").click()
    expect(page.locator("#play .told")).to_be_empty()


def test_the_stage_shows_its_focus(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    stage = page.locator("#play .play-stage")
    outline = "s => getComputedStyle(s).outlineStyle"
    assert stage.evaluate(outline) == "none"
    press_play(page)
    expect(stage).to_be_focused()
    assert stage.evaluate(outline) == "solid"
    box = page.locator("#play .picture").bounding_box()
    assert box is not None
    assert box["width"] >= 512


def test_without_a_play_keys_are_the_pages(page: Page, studio: Studio) -> None:
    page.set_viewport_size({"width": 1366, "height": 400})
    open_play(page, studio)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("PageDown")
    page.wait_for_function("scrollY > 0")
    assert studio.pipeline.plays == []


def test_the_pad_and_a_gamepad_press_keys(page: Page, studio: Studio) -> None:
    page.add_init_script(
        "window.pad = null;"
        "const wheel = {mapping: '', axes: [-1, -1, -1, -1], buttons: []};"
        "navigator.getGamepads = () => [null, wheel, window.pad];"
        "window.hold = (axes) => { window.pad = axes && {mapping: 'standard', axes,"
        " buttons: Array.from({length: 16}, () => ({pressed: false}))}; };"
    )
    open_play(page, studio)
    press_play(page)
    box = page.locator("#play [data-move=right]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    until_key(page, "right")
    expect(page.locator("#play [data-move=right]")).to_have_class("held")
    page.mouse.up()
    until_key(page, "stay")
    before = len(studio.pipeline.plays[-1].pressed)
    page.locator("#play [data-move=left]").click(button="right")
    page.wait_for_timeout(400)
    assert set(studio.pipeline.plays[-1].pressed[before:]) <= {"stay", "right"}
    page.locator("#play [data-move=up]").focus()
    page.keyboard.press("Enter")
    until_key(page, "up")
    page.evaluate("hold([-1, 0, 0, 0])")
    until_key(page, "left")
    page.evaluate("hold([0, 0, 0, 0])")
    until_key(page, "stay")
    page.evaluate("hold([0, -1, 0, 0])")
    until_key(page, "away")
    page.evaluate("hold(null)")  # it was unplugged
    until_key(page, "stay")


def test_keys_that_a_mac_does_not_report_are_let_go(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    page.keyboard.down("ArrowLeft")
    until_key(page, "left")
    page.keyboard.down("Meta")
    page.keyboard.up("Meta")
    until_key(page, "stay")


def test_a_page_that_was_hidden_goes_on_as_if_nothing_had_been(page: Page, studio: Studio) -> None:
    page.add_init_script(
        "const draw = window.requestAnimationFrame; const waiting = [];"
        "window.requestAnimationFrame = (tick) =>"
        " window.isHidden ? waiting.push(tick) : draw(tick);"
        "window.show = () => { window.isHidden = false; waiting.splice(0).forEach(draw); };"
    )
    open_play(page, studio)
    press_play(page)
    until_shown(page, 60)
    page.evaluate(
        "window.isHidden = true; document.querySelector('#play .play-stage')"
        ".dispatchEvent(new KeyboardEvent('keydown', {code: 'ArrowLeft', bubbles: true}));"
        "window.said = []; new MutationObserver(() => window.said.push("
        "document.querySelector('#play .told').textContent))"
        ".observe(document.querySelector('#play .told'), {childList: true});"
    )
    page.wait_for_timeout(5000)
    page.evaluate("show()")
    until_key(page, "left")
    until_shown(page, 100)
    assert not [words for words in page.evaluate("said") if "real time" in words]
    expect(page.locator("#play .picture")).to_have_attribute("data-keys", "0")


def test_settings_that_a_narrow_page_folded_are_there_on_a_wide_one(
    page: Page, studio: Studio
) -> None:
    page.set_viewport_size({"width": 600, "height": 844})
    open_play(page, studio)
    expect(page.locator("#play .block")).to_be_hidden()
    page.set_viewport_size({"width": 1200, "height": 844})
    expect(page.locator("#play .block")).to_be_visible()


def test_pause_step_reset(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    page.locator("#play .go").click()
    expect(page.locator("#play .go")).to_have_text("Play")
    page.wait_for_timeout(700)
    (play,) = studio.pipeline.plays
    made = len(play.pressed)
    page.wait_for_timeout(700)
    assert len(play.pressed) == made, "a pause costs nothing"
    page.keyboard.press("ArrowLeft")
    page.locator("#play .single").click()
    until_key(page, "left")
    page.wait_for_timeout(400)
    assert len(play.pressed) == made + 1
    assert page.locator("#play .picture").evaluate(COLOUR)[1] == made + 1
    page.locator("#play .reset").click()
    until_shown(page, 8)
    page.wait_for_function(
        "document.querySelector('#play .picture').getContext('2d')"
        f".getImageData(64, 64, 1, 1).data[1] < {made}"
    )
    assert len(studio.pipeline.plays) == 2


def until_timed(page: Page, count: int) -> None:
    """Until the figures are of so many key presses."""
    expect(page.locator("#play .picture")).to_have_attribute("data-keys", str(count))


def test_a_key_is_timed_only_while_it_plays(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_play(page, studio)
    press_play(page)
    page.keyboard.press("ArrowLeft")
    until_timed(page, 1)
    studio.pipeline.step_s = 1.0
    (play,) = studio.pipeline.plays
    asked = len(play.pressed)
    until(page, lambda: len(play.pressed) > asked)  # and the next is asked for
    page.wait_for_timeout(300)
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(100)
    page.locator("#play .go").click()
    page.keyboard.press("ArrowRight")
    studio.pipeline.step_s = 0.02
    page.wait_for_timeout(1500)
    page.locator("#play .go").click()
    until_key(page, "right")
    until_key(page, "stay")
    page.locator("#play .go").click()
    page.wait_for_timeout(700)
    page.locator("#play .play-stage").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    page.locator("#play .single").click()
    until_key(page, "near")
    page.wait_for_timeout(500)
    until_timed(page, 1)

    begin = FakePipeline.play

    def slow(*arguments: Any) -> Any:
        time.sleep(0.8)
        return begin(*arguments)

    monkeypatch.setattr(FakePipeline, "play", slow)
    page.locator("#play .reset").click()
    page.wait_for_timeout(300)
    page.keyboard.press("ArrowLeft")
    until(page, lambda: len(studio.pipeline.plays) == 2)
    until_key(page, "left")
    until_key(page, "stay")
    page.wait_for_timeout(500)
    until_timed(page, 0)


def test_other_settings_and_another_play_time_keys_anew(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    figures = page.locator("#play .figures")
    for renew in (
        lambda: page.locator("#play .block").select_option("1x1x1"),
        lambda: page.locator("#play .reset").click(),
        lambda: choose_model(page, "fake"),
    ):
        page.locator("#play .play-stage").focus()
        page.keyboard.press("ArrowLeft")
        expect(figures).to_contain_text("key to picture")
        renew()
        expect(figures).to_contain_text("latent frame")
        expect(figures).not_to_contain_text("key to picture")
        until_timed(page, 0)


def choose_model(page: Page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name).click()


def test_what_cannot_keep_up_says_so(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    studio.pipeline.step_s = 0.05
    page.locator("#play .block").select_option("1x1x1")
    told = page.locator("#play .told")
    expect(told).to_contain_text("of real time: a latent frame of 256 steps takes")
    expect(told).to_contain_text("Larger blocks need fewer steps.")
    page.locator("#play .block").select_option("1x1x16")
    expect(told).to_be_empty()


def test_a_slow_connection_and_a_lost_one_say_so(page: Page, studio: Studio) -> None:
    page.add_init_script(NETWORK)
    open_play(page, studio)
    press_play(page)
    told = page.locator("#play .told")
    page.evaluate("network.delay = 400")
    expect(told).to_contain_text("on its way here and lasts 250 ms.")
    page.evaluate("network.delay = 0")
    expect(told).to_be_empty()
    page.evaluate("network.sockets[0].isLost = true")
    expect(told).to_contain_text("No answer from the studio")
    page.locator("#play .reset").click()
    expect(told).to_be_empty()
    page.wait_for_function("network.sockets[0].readyState === WebSocket.CLOSED")
    expect(page.locator("#play .go")).to_have_text("Pause")
    assert [play.is_closed for play in studio.pipeline.plays] == [True, False]
    page.evaluate("network.delay = 3000")
    page.locator("#play .reset").click()
    expect(told).to_have_text("Starting.")
    page.wait_for_timeout(500)  # the line is written anew four times a second
    expect(told).to_have_text("Starting.")
    page.evaluate("network.sockets[1].isLost = true")
    expect(told).to_contain_text("No answer from the studio")
    page.evaluate("network.sockets[1].close()")
    expect(told).to_contain_text("The connection ended.")
    page.evaluate("network.delay = 0")
    page.locator("#play .go").click()
    expect(told).to_be_empty()
    expect(page.locator("#play .go")).to_have_text("Pause")
    assert [play.is_closed for play in studio.pipeline.plays] == [True, True, True, False]


def test_a_model_without_keys_is_a_sentence(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    studio.pipeline.worlds = ()
    choose_model(page, "fake")
    expect(page.locator("#play .told")).to_have_text(
        "The model fake cannot be played with keys. Choose another one above."
    )
    expect(page.locator("#play .go")).to_be_disabled()
    studio.pipeline.worlds = ("arm", "camera")
    choose_model(page, "other")
    expect(page.locator("#play .go")).to_be_enabled()


def test_a_refresh_of_the_models_is_followed(page: Page, studio: Studio) -> None:
    """The folder of the chosen model may hold another one by now."""
    open_play(page, studio)
    told = page.locator("#play .told")
    go = page.locator("#play").get_by_role("button", name="Play", exact=True)
    for worlds, words in (((), "cannot be played with keys"), (("arm", "camera"), "Press Play")):
        studio.pipeline.worlds = worlds
        open_tab(page, "Models")
        page.get_by_role("button", name="Refresh").click()
        open_tab(page, "Play")
        expect(told).to_contain_text(words)
        expect(go).to_be_enabled(enabled=bool(worlds))


@pytest.fixture
def by_token(tmp_path: Path) -> Iterator[tuple[str, FakePipeline]]:
    """A studio of two models; one of them, `by_token`, writes token by token alone."""
    fake, tokens = FakePipeline(), FakePipeline("by_token")
    tokens.block_shapes = ((1, 1, 1),)
    tokens.step_s = 0.001
    for url in serve(session_of(tmp_path / "models", fake=fake, by_token=tokens)):
        yield url, tokens


def test_the_blocks_are_those_of_the_model_that_plays(
    page: Page, by_token: tuple[str, FakePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a change to another model was refused."""

    def refuse(*arguments: Any) -> Any:
        raise ValueError("There is no memory for this model.")

    page.add_init_script(NETWORK)
    url, tokens = by_token
    open_studio(page, url, "Play")
    press_play(page)
    told = page.locator("#play .told")
    blocks = page.get_by_role("combobox", name="Block").get_by_role("option")
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "play", refuse)
        choose_model(page, "by_token")
        expect(told).to_have_text("There is no memory for this model.")
        expect(blocks).not_to_have_count(1)
        page.evaluate("network.sockets[0].close()")
        expect(told).to_contain_text("The connection ended.")
        expect(blocks).to_have_count(1)
        choose_model(page, "fake")
        expect(blocks).not_to_have_count(1)
        press_play(page)
        choose_model(page, "by_token")
        expect(told).to_have_text("There is no memory for this model.")
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.locator("#play .title")).to_contain_text("by_token")
    expect(blocks).to_have_count(1)
    assert tokens.plays[-1].first_sampling.block_shape == (1, 1, 1)


def test_beside_the_simulator(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    page.locator("#play .beside input").check()
    page.locator("#play .go").click()
    expect(page.locator("#play .simulator")).to_be_visible()
    expect(page.locator("#play .go")).to_have_text("Play again")
    caption = page.locator("#play .curve figcaption")
    expect(caption).to_contain_text("on average over 17 frames")
    simulator = page.locator("#play .simulator").evaluate(COLOUR)
    assert all(abs(level - 99) < 4 for level in simulator)
    (play,) = studio.pipeline.plays
    assert play.pressed == ["left", "left+grip", "stay", "up"]


def test_a_play_is_saved_and_replayed(page: Page, studio: Studio, tmp_path: Path) -> None:
    open_play(page, studio)
    press_play(page)
    page.keyboard.down("ArrowLeft")
    until_key(page, "left")
    page.locator("#play .go").click()
    page.keyboard.up("ArrowLeft")
    page.wait_for_timeout(700)
    with page.expect_download() as download:
        page.locator("#play .keep").click()
    path = tmp_path / "play.json"
    download.value.save_as(path)
    recording = json.loads(path.read_text())
    keys = recording["keys"].split()
    assert set(keys) == {"stay", "left"}
    assert recording["start"] == "drawer open"
    assert path.stat().st_size < 4096
    page.locator("#play .film").click()
    expect(page.locator("#play-saved")).to_contain_text("The clip is ready")
    with page.expect_download() as download:
        page.locator("#play-get-clip").click()
    clip = tmp_path / "play.mp4"
    download.value.save_as(clip)
    frames = read_video(clip)[0]
    assert len(frames) == 1 + 4 * len(keys)
    page.locator("#play-go-on").click()
    expect(page.get_by_label("five frames")).to_be_checked()
    expect(page.locator("#clip video")).to_be_visible()
    open_tab(page, "Play")
    assert abs(int(np.median(frames[-1, ..., 0])) - HUES[keys[-1]]) < 8
    for file in (path, clip):
        page.locator("#play-recorded input[type=file]").set_input_files(file)
        expect(page.locator("#play .title")).to_contain_text("a recording from drawer open")
        expect(page.locator("#play .go")).to_have_text("Play again")
        until_key(page, keys[-1])
        assert studio.pipeline.plays[-1].pressed == keys
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    page.locator("#play-recorded input[type=file]").set_input_files(broken)
    expect(page.get_by_test_id("toast-body")).to_contain_text("broken.json")


def test_two_clicks_at_once_are_one_clip_and_a_second_is_refused(
    page: Page, studio: Studio
) -> None:
    open_play(page, studio)
    press_play(page)
    until_shown(page, 40)
    page.locator("#play .go").click()
    page.wait_for_timeout(700)
    downloads: list[str] = []
    page.on("download", lambda file: downloads.append(file.suggested_filename))
    replays = len(studio.pipeline.plays)
    studio.pipeline.step_s = 1.0
    page.evaluate("for (let i = 0; i < 2; i++) document.querySelector('#play .film').click()")
    expect(page.locator("#play-saved")).to_contain_text("Making the clip")
    page.locator("#play .film").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("A clip is being made.")
    page.locator("#play-saved-stop").click()
    expect(page.locator("#play-saved-stop")).to_be_hidden()
    assert len(studio.pipeline.plays) == replays + 1
    studio.pipeline.step_s = 0.0
    page.locator("#play .film").click()
    until(page, lambda: len(studio.pipeline.plays) == replays + 2)
    expect(page.locator("#play-saved")).to_contain_text("The clip is ready")
    assert downloads == []


def test_a_reload_ends_the_play(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    page.reload()
    expect(page.locator("#play .told")).to_have_text("Press Play, then hold a key.")
    (play,) = studio.pipeline.plays
    until(page, lambda: play.is_closed)
    press_play(page)


def until(page: Page, condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_MS // 100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError


def test_the_page_is_not_wider_than_the_screen(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    page.locator("#play .beside input").check()
    press_play(page)
    for width in (1366, 390):
        expect_to_fit(page, width)


def test_on_a_phone_the_picture_and_the_pad_are_on_one_screen(page: Page, studio: Studio) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_play(page, studio)
    press_play(page)
    for part in ("#play .go", "#play .picture", "#play .pad"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    expect(page.locator("#play .block")).to_be_hidden()
    page.locator("#play .options summary").press("Space")
    page.locator("#play .block").select_option("1x1x1")
    assert page.evaluate("document.documentElement.scrollHeight") < 3 * 844


def test_the_square_of_a_photograph_is_moved(page: Page, studio: Studio, tmp_path: Path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 128:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    open_play(page, studio)
    page.locator("#play-photo input[type=file]").set_input_files(tmp_path / "wide.png")
    expect(page.locator("#play .title")).to_contain_text("your photograph")
    expect(page.locator("#play-photo .crop-square")).to_be_visible()
    page.locator("#play-crop input[type=range]").press("End")
    until(page, lambda: tuple(studio.pipeline.plays[-1].first_frame_HWC[64, 64]) == (0, 0, 255))


def test_a_page_that_is_left_asks_for_nothing(page: Page, studio: Studio) -> None:
    open_play(page, studio)
    press_play(page)
    open_tab(page, "Generate")
    page.wait_for_timeout(800)
    (play,) = studio.pipeline.plays
    made = len(play.pressed)
    page.wait_for_timeout(800)
    assert len(play.pressed) == made
    open_tab(page, "Play")
    page.wait_for_timeout(800)
    assert len(play.pressed) > made


def test_playing_is_for_everybody(page: Page, studio: Studio) -> None:
    pytest.importorskip("axe_playwright_python")
    from tests.browser.test_accessibility import faults_in_both_themes

    open_studio(page, f"{studio.url}?__theme=light", "Play")
    page.locator("#play .beside input").check()
    press_play(page)
    page.keyboard.press("Space")
    expect(page.locator("#play .go")).to_have_text("Play again")
    assert faults_in_both_themes(page) == []
