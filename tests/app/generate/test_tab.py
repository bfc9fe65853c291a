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
    updates = tab.change_model("continues", "action", "door-open")
    assert updates[page.facts] == "continues needs &lt;9 GB&gt; of memory."
    assert starts(tab, updates) == (["frame", "clip"], "clip")
    assert updates[page.action].choices == [("no action", "")]
    assert updates[page.actions].visible is False
    monkeypatch.undo()
    assert tab.change_model("fake", "clip", "")[page.facts].startswith("1.2M parameters")


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
    updates = tab.change_model("fake", start, before)
    assert updates[tab.page.action].constructor_args.get("value") == after
    assert "value" not in updates[tab.page.start].constructor_args
