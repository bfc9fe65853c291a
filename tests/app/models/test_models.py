"""The Models tab: what every folder is, what is wrong with it, and how another is added."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.jobs import Job
from app.models import jobs, listing
from app.models.tab import ModelsTab, commands
from app.parts.follow import Follower
from app.session import Session
from nbp_core.cli.main import build_parser
from nbp_core.config.weight_files import weights_sha256
from nbp_core.models.catalogue import (
    ModelEntry,
    catalogue,
    fingerprint,
    read_card,
)
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import decoding_bytes
from tests.models.test_convert import reference_tokenizer
from tests.support.broken_models import BROKEN, add_broken, is_sentence
from tests.support.models import ACTIONS, CODES, save_pipeline, transformer_config
from tests.support.released import save_tokenizer


@pytest.fixture
def models(tmp_path: Path) -> Path:
    save_pipeline(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def session(models: Path) -> Iterator[Session]:
    session = Session(models, "cpu", is_local=True)
    yield session
    session.close()


@pytest.fixture
def tab(session: Session) -> ModelsTab:
    with gr.Blocks() as blocks:
        return ModelsTab(
            session,
            blocks,
            gr.Dropdown(["tiny"], value="tiny"),
            Follower(session.jobs, "test", 0.5),
        )


def by_name(models: Path, device: str = "cpu") -> dict[str, ModelEntry]:
    return {entry.name: entry for entry in catalogue(models, device)}


def test_every_folder_is_described(models: Path) -> None:
    found = by_name(models)
    tiny, nano = found["tiny"], found["nano"]
    assert (tiny.kind, nano.kind) == ("transformer", "tokenizer")
    assert tiny.grid == nano.grid == (5, 16, 16)
    assert tiny.codebook_size == nano.codebook_size == CODES
    assert tiny.actions == ACTIONS
    assert len(tiny.block_shapes) == 6
    assert tiny.tokenizer == "nano"
    assert tiny.num_bytes == (models / "tiny/model.safetensors").stat().st_size


def test_memory_is_weights_cache_and_tokenizer(models: Path) -> None:
    found = by_name(models)
    tiny, nano = found["tiny"], found["nano"]
    for device in ("cpu", "cuda"):
        alone = decoding_bytes(transformer_config(), choose_format(device))
        assert alone > 2 * tiny.num_parameters
        assert by_name(models, device)["tiny"].memory_bytes == alone + 4 * nano.num_parameters


def lose_tokenizer(folder: Path) -> None:
    """The model names a tokenizer that is nowhere."""
    description = json.loads((folder / "config.json").read_text())
    description["tokenizer"] = {"folder": "../lost", "sha256": "0" * 64}
    (folder / "config.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json."),
        (lambda f: (f / "config.json").write_text("{"), "quotes, line 1, column 2."),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"no"),
            "model.safetensors of model 'tiny' is corrupt.",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors."),
        (lose_tokenizer, "copy that folder beside the model's."),
    ],
)
def test_a_fault_is_one_sentence_and_spares_the_others(
    models: Path, break_it: object, sentence: str
) -> None:
    assert callable(break_it)
    break_it(models / "tiny")
    entry = by_name(models)["tiny"]
    assert entry.fault.endswith(sentence)
    assert entry.fault.count(". ") == 0
    assert str(models) not in entry.fault
    assert not next(e for e in catalogue(models, "cpu") if e.name != "tiny").fault


def test_broken_configs_are_sentences_in_the_list_of_models(models: Path) -> None:
    add_broken(models, models / "tiny" / "model.safetensors")
    faults = {entry.name: entry.fault for entry in catalogue(models, "cpu")}
    assert {name for name, fault in faults.items() if not fault} == {"nano", "tiny"}
    for name, (_, sentence) in BROKEN.items():
        assert sentence in faults[name]
        assert is_sentence(faults[name])


def test_hidden_folders_and_files_are_no_models(models: Path) -> None:
    (models / ".half-converted").mkdir()
    (models / "notes.txt").write_text("mine")
    assert sorted(by_name(models)) == ["nano", "tiny"]
    assert catalogue(models / "none", "cpu") == []


def test_a_card_names_its_licence_in_front_or_in_a_section(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\ntags: [video]\n---\n# x\n\nA small\nmodel.\n\n## More\n")
    front = read_card(tmp_path)
    assert (front.licence, front.excerpt) == ("mit", "A small model.")
    assert front.text.startswith("# x")
    card.write_text("# x\n\nAnother.\n\n## Licence\n\nCC0, as its\n`data`.\n\n## End\n")
    assert read_card(tmp_path).licence == "CC0, as its data."
    card.write_text("# x\n\nThird.\n")
    assert read_card(tmp_path).licence == ""
    card.unlink()
    assert read_card(tmp_path).text == ""


def test_a_card_is_shown_as_written_and_loads_nothing(session: Session) -> None:
    (session.models / "tiny" / "README.md").write_text(
        "# t\n\nIt is `small`. <script>alert(1)</script>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "![Twenty <clips>](https://example.org/x.png) [go](javascript:alert) <img src=y.png>\n"
        "\n[there](https://example.org/)\n"
    )
    (session.models / "a<b").mkdir()
    shown = listing.model_list(session)
    assert "<h3>t</h3>" in shown
    assert "<p>It is <code>small</code>. &lt;script&gt;" in shown
    assert "<td>1</td>" in shown
    assert "<em>Twenty &lt;clips&gt; (https://example.org/x.png)</em>" in shown
    assert '<a href="https://example.org/" target="_blank" rel="noreferrer">there</a>' in shown
    for risky in ("<script", "<img", 'src="', 'href="javascript'):
        assert risky not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "a&lt;b" in shown
    assert "see the model card" in shown


def test_a_card_shows_the_pictures_of_its_own_folder_alone(
    session: Session, tmp_path: Path
) -> None:
    folder = session.models / "tiny"
    picture = Image.new("RGB", (1280, 1440), "teal")
    picture.save(folder / "samples.jpg")
    picture.save(session.models / "above.jpg")
    picture.save(tmp_path / "elsewhere.jpg")
    (folder / "linked.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "torn.jpg").write_bytes(b"no picture")
    names = ("../above.jpg", "linked.jpg", "torn.jpg", "gone.jpg", "samples.jpg")
    (folder / "README.md").write_text(
        "# t\n\nIt.\n\n" + "".join(f"![of {n}]({n})\n" for n in names)
    )
    shown = listing.model_list(session)
    assert shown.count("<img") == 2, "above the facts, and in the card"
    sizes = []
    for found in re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="of samples.jpg"', shown):
        with Image.open(io.BytesIO(base64.b64decode(found))) as sent:
            sizes.append(sent.size)
            assert np.abs(np.asarray(sent) - np.array([0, 128, 128])).max() < 6
    assert sizes == [(640, 128), (640, 720)]
    for name in names[:-1]:
        assert f"<em>of {name} ({name})</em>" in shown


def test_a_model_names_the_keys_that_it_answers_to(session: Session) -> None:
    assert "<dt>keys</dt><dd>none</dd>" in listing.model_list(session)
    path = session.models / "tiny" / "config.json"
    data = json.loads(path.read_text())
    keys = ["stay", "left", "stay+grip", "left+grip", "still"]
    data["config"] |= {"keys": keys, "num_conditions": len(ACTIONS) + len(keys) + 1}
    path.write_text(json.dumps(data))
    entry = by_name(session.models)["tiny"]
    assert entry.keys == tuple(keys), entry.fault
    words = "stay, left, each with an open and a closed grip; still"
    assert f"<dt>keys</dt><dd>{words}</dd>" in listing.model_list(session)


def test_untrained_sizes_say_what_they_are_and_whether_they_fit(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbp_core.device.free_bytes", lambda device: 4 * 10**9)
    shown = listing.model_list(session)
    assert "Their output is noise" in shown
    assert "XL (random weights: speed only)" in shown
    assert "4.0 GB are free here: fits" in shown
    assert "4.0 GB are free here: does not fit" in shown


def test_fingerprints_are_computed_once_and_kept_for_these_weights(
    tab: ModelsTab, session: Session
) -> None:
    assert "fingerprint not computed yet" in listing.model_list(session)
    begun = tab.compute_fingerprints("tiny")
    job = session.jobs.get(begun[tab.follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    shown = tab.follower.poll(job.id, ("", 0), "tiny")[tab.list]
    for name in ("nano", "tiny"):
        assert f"fingerprint {weights_sha256(session.models / name)[:8]} (sha256)" in shown
    weights = session.models / "nano" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2] + b"\0\1")
    assert "fingerprint not computed yet" in listing.model_list(session)
    with pytest.raises(ValueError, match="another version of tokenizer 'nano'"):
        fingerprint(session.models / "tiny")


def test_fingerprints_that_were_stopped_are_not_called_done(session: Session) -> None:
    entries = [entry for entry in listing.read_catalogue(session) if not entry.fault]

    def work(job: Job) -> jobs.Fingerprints:
        job.stop.set()
        return jobs.fingerprint_all(session, entries, job)

    job = session.jobs.submit(work)
    assert job.finished.wait(60)
    said = listing.status(session.jobs.view(job.id))
    assert "Stopped before the first fingerprint was computed." in said


def test_fingerprints_stop_within_a_file(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbp_core.config.weight_files._PIECE_BYTES", 1000)
    entries = [entry for entry in listing.read_catalogue(session) if entry.name == "nano"]
    done: list[int] = []

    def work(job: Job) -> jobs.Fingerprints:
        usual = job.wait_turn

        def wait_turn() -> bool:
            done.append(round(job.progress[0] * entries[0].num_bytes))
            assert job.turns is None, "players have their turns"
            if len(done) == 3:
                job.stop.set()
            return usual()

        monkeypatch.setattr(job, "wait_turn", wait_turn)
        return jobs.fingerprint_all(session, entries, job)

    job = session.jobs.submit(work)
    assert job.finished.wait(60)
    assert done == [0, 1000, 2000]
    assert job.result == jobs.Fingerprints({}, False)


def test_players_have_turns_while_a_file_is_converted(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[bool] = []

    def work(job: Job) -> jobs.Converted:
        monkeypatch.setattr(
            "nbp_core.models.released.convert.convert",
            lambda *words, **options: lent.append(job.turns is None),
        )
        request = jobs.ConversionRequest(
            file=tmp_path / "a.pt", folder=tmp_path / "new", precision="keep"
        )
        return jobs.convert(request, job)

    job = session.jobs.submit(work)
    assert job.finished.wait(60)
    assert (job.result, lent) == (jobs.Converted("new"), [True])


def test_refresh_offers_new_models_in_the_header(tab: ModelsTab, session: Session) -> None:
    (session.models / "tiny").rename(session.models / "renamed")
    pipeline = session.pipeline("renamed")
    _, header = tab.read_anew("tiny")
    names = [name for name, _ in header.choices]
    assert names[0] == header.value == "renamed"
    assert names[1] == "XL (random weights: speed only)"
    assert session.pipeline("renamed") is not pipeline, "the folder is read again"


def test_a_released_file_becomes_a_model(tab: ModelsTab, tmp_path: Path) -> None:
    file = save_tokenizer(reference_tokenizer(), tmp_path / "magvit2_ucf.pt")
    begun = tab.convert(f" {file} ", "ucf-tokens", "float16", "tiny")
    job = tab.session.jobs.get(begun[tab.follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    ended = tab.follower.poll(job.id, ("", 0), "tiny")
    assert "Done. ucf-tokens is in the list" in ended[tab.status]
    assert "<h2>ucf-tokens</h2>" in ended[tab.list]
    assert job.progress[0] == 1
    assert by_name(tab.session.models)["ucf-tokens"].num_bytes < file.stat().st_size


@pytest.mark.parametrize(
    ("file", "name", "sentence"),
    [
        ("", "x", "Enter the path of a released file"),
        ("/nowhere/at/all.pt", "x", "Enter the path of a released file"),
        ("~nobody-of-this-name/x.pt", "x", "path of a released file"),
        ("x" * 300, "x", "path of a released file"),
        ("FILE", "../x", "letters, digits"),
        ("FILE", ".x", "letters, digits"),
        ("FILE", "tiny", "There already is a model 'tiny'"),
    ],
)
def test_what_cannot_be_converted_is_refused_at_once(
    tab: ModelsTab, tmp_path: Path, file: str, name: str, sentence: str
) -> None:
    (tmp_path / "some.pt").write_bytes(b"x")
    with pytest.raises(gr.Error, match=sentence):
        tab.convert(file.replace("FILE", str(tmp_path / "some.pt")), name, "keep", "tiny")
    assert tab.session.jobs.length == 0


def test_a_foreign_file_fails_in_one_sentence_and_leaves_nothing(
    tab: ModelsTab, tmp_path: Path
) -> None:
    (tmp_path / "some.pt").write_bytes(b"not a checkpoint")
    begun = tab.convert(str(tmp_path / "some.pt"), "x", "keep", "tiny")
    job = tab.session.jobs.get(begun[tab.follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    assert 'class="failed"' in tab.follower.poll(job.id, ("", 0), "tiny")[tab.status]
    assert not (tab.session.models / "x").exists()


def test_visitors_of_a_served_studio_cannot_name_files(models: Path, tmp_path: Path) -> None:
    session = Session(models, "cpu")
    (tmp_path / "some.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="served to this machine"):
        jobs.conversion_request(session, str(tmp_path / "some.pt"), "x", "keep")
    session.close()


@pytest.mark.parametrize("label", commands("weights"))
def test_the_commands_shown_parse(label: str) -> None:
    command, help_line = commands("weights")[label]
    assert "config.json" not in help_line, "no file is edited by hand"
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "nbp_core"]
    assert callable(build_parser().parse_args(words[3:]).run)


def test_an_unreadable_description_is_not_trusted(models: Path) -> None:
    path = models / "tiny" / "config.json"
    data = json.loads(path.read_text())
    data["tokenizer"] = {"folder": "<img src=x>"}
    path.write_text(json.dumps(data))
    assert "'<img src=x>'" in by_name(models)["tiny"].fault
