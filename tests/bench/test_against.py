import importlib.util
from dataclasses import replace

import pytest

from nbp_core.bench import against
from nbp_core.cli.main import main


def test_without_transformers_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "--device", "cpu", "--against", "transformers"]) == 2
    assert "pip install --group against" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
@pytest.mark.slow
def test_the_same_model_is_timed_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    little = replace(against.SHAPES["small"], num_layers=1, width=32, num_heads=2)
    monkeypatch.setitem(against.SHAPES, "small", little)
    found = against.compare("small", "float32", num_tokens=4, rounds=1)
    assert found.ratio == pytest.approx(found.their_ms / found.our_ms)
