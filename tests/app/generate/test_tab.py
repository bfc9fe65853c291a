"""The controls of Generate follow the model, whoever chooses it and whether or not it loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.clips.form import Start
from app.clips.request import make_request, values_of
from app.generate.tab import GenerateTab
from app.session import Session
from tests.app.generate.test_reuse import built
from tests.support.engine import VALUES, Continues, FakePipeline, session_of


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[GenerateTab]:
    """A tab on a model with actions and on one without."""
    session = session_of(tmp_path / "models", continues=Continues(), fake=FakePipeline())
    yield built(session)
    session.close()


def starts(tab: GenerateTab, updates: dict[Any, Any]) -> tuple[list[str], str]:
    """(the starts that are offered, the chosen one)."""
    radio = updates[tab.page.start]
    return [value for _, value in radio.choices], radio.value


def test_settings_of_another_model_bring_its_starts(tab: GenerateTab) -> None:
    values = values_of(make_request(**VALUES))
    assert starts(tab, tab.fill(values)) == (["action", "frame", "clip"], "action")
    values |= {"model": "continues", "action": ""}
    assert starts(tab, tab.fill(values)) == (["frame", "clip"], "clip")


def test_a_model_that_cannot_be_loaded_is_said_in_the_header(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header no longer says that it loads, and the controls are those of that model."""

    def refuse(self: Session, name: str) -> None:
        raise ValueError(f"{name} needs <9 GB> of memory.")

    page = tab.page
    assert tab.announce("continues").startswith("Loading continues")
    monkeypatch.setattr(Session, "_load_in_place", refuse)
    assert tab.facts_of("continues") == "continues needs &lt;9 GB&gt; of memory."
    updates = tab.refit("continues", "action", "door-open", "")
    assert starts(tab, updates) == (["frame", "clip"], "clip")
    assert updates[page.action].choices == [("no action", "")]
    assert updates[page.actions].visible is False
    monkeypatch.undo()
    assert tab.facts_of("fake").startswith("1.2M parameters")


@pytest.mark.parametrize(
    ("start", "before", "after"),
    [
        ("action", "door-open", None),
        ("action", "of-another-model", "drawer-close"),
        ("action", "", "drawer-close"),
        ("frame", "", None),
        ("clip", "door-open", None),
    ],
)
def test_the_chosen_action_stays_where_the_model_knows_it(
    tab: GenerateTab, start: Start, before: str, after: str | None
) -> None:
    """It is not sent back: while the model was loaded, the visitor may have chosen another."""
    updates = tab.refit("fake", start, before, "", suggests=True)
    assert updates[tab.page.action].constructor_args.get("value") == after
    assert "value" not in updates[tab.page.start].constructor_args


def test_no_action_stays_where_nobody_chose_another_model(tab: GenerateTab) -> None:
    """After Refresh on Models, say, or with the settings of a clip."""
    updates = tab.refit("fake", "action", "", "")
    assert "value" not in updates[tab.page.action].constructor_args


def test_a_model_that_needs_an_action_is_offered_one_for_every_start(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakePipeline, "needs_action", True)
    action = tab.refit("fake", "clip", "", "")[tab.page.action]
    assert ("no action", "") not in action.choices
    assert action.value == "door-open"
    assert tab.suggest("fake", "clip", 0.7)[0] == "door-open"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("door-open*2 zoom-in", None),
        ("door-open*2 of-another-model", ""),
        ("door-open*", None),
        ("", None),
    ],
)
def test_a_list_of_actions_stays_where_the_model_knows_them_all(
    tab: GenerateTab, before: str, after: str | None
) -> None:
    box = tab.refit("fake", "action", "door-open", before)[tab.page.actions]
    assert box.constructor_args.get("value") == after
    assert box.constructor_args["visible"]


def test_the_example_of_a_list_names_the_models_own_actions(
    tab: GenerateTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tab.refit("fake", "action", "", "")[tab.page.actions].constructor_args
    assert shown["placeholder"] == "door-open*4 drawer-close*8"
    monkeypatch.setattr(FakePipeline, "timeline_names", ("drawer-close", "drawer-open", "wave"))
    shown = tab.refit("fake", "action", "", "")[tab.page.actions].constructor_args
    assert shown["placeholder"] == "drawer-open*4 drawer-close*8"
    monkeypatch.setattr(FakePipeline, "timeline_names", ("wave a hand",))
    shown = tab.refit("fake", "action", "", "")[tab.page.actions].constructor_args
    assert shown["placeholder"] == "'wave a hand'*12"


def test_recipes_are_offered_where_the_model_knows_their_action(tab: GenerateTab) -> None:
    robot = tab.page.welcome.robot
    assert robot.visible
    welcome = tab.page.welcome
    assert welcome.refit("fake")[robot].constructor_args["visible"]
    assert not welcome.refit("continues")[robot].constructor_args["visible"]


def test_a_recipe_makes_its_own_action_and_not_the_list_that_was_entered(tab: GenerateTab) -> None:
    values = {**VALUES, "actions": "zoom-in*8"}
    updates = tab.make_robot(*values.values())
    job = tab.session.jobs.get(updates[tab.page.follower.job_id])
    assert job is not None
    assert (job.request.action, job.request.actions) == ("drawer-close", ())
    assert updates[tab.page.actions] == ""


@pytest.mark.parametrize(
    ("num_frames", "actions", "steps"),
    [(17, "", 80), (33, "", 144), (65, "", 272), (33, "door-open*2 zoom-in", 64), (33, "x*", 144)],
)
def test_steps_are_counted_for_the_length_of_the_clip(
    tab: GenerateTab, num_frames: int, actions: str, steps: int
) -> None:
    """A list of actions sets it, once it can be read."""
    radio = tab.change_blocks("fake", "action", num_frames, actions, "1x1x16")
    labels = {value: str(label) for label, value in radio.choices}
    assert labels["1x1x16"].startswith(f"row 1x1x16: {steps} steps")
    values = values_of(make_request(**VALUES)) | {"num_frames": num_frames, "actions": actions}
    assert tab.fill(values)[tab.page.block].choices == radio.choices
