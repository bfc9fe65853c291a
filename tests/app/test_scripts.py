"""The page's scripts: their own tests, a few rules, and how they become one text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.parts.sources import component_script, page_script
from app.theme import css

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(ROOT.glob("app/**/*.js"))
SOURCES = [*SCRIPTS, *ROOT.glob("tests/scripts/*.js"), *ROOT.glob("app/**/*.css")]
NODE = shutil.which("node")
BANNED = {
    r"\bvar\s": "const or let",
    r"[^=!]==[^=]|!=[^=]": "=== or !==",
    r"innerHTML|insertAdjacentHTML|document\.write": "text content: a name may come from a file",
    r"\beval\(|new Function": "no text is run",
    r"console\.": "nothing for the console",
    r"https?://(?!localhost)": "no address outside this machine",
}
MODULES = sorted([*ROOT.glob("app/**/*.py"), ROOT / "app.py"])
FOREIGN = re.compile(r"addEventListener|querySelector|=> \{|\bconst \w+ =|^[#.][\w-]+.* \{.*[;}]")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_scripts_pass_their_own_tests() -> None:
    tests = sorted(map(str, ROOT.glob("tests/scripts/*.test.js")))
    done = subprocess.run(
        [str(NODE), "--test", *tests], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_is_a_module_without_mistakes_of_form(path: Path) -> None:
    done = subprocess.run(
        [str(NODE), "--check", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_keeps_the_rules(path: Path) -> None:
    text = path.read_text()
    broken = [why for rule, why in BANNED.items() if re.search(rule, text)]
    assert broken == []
    declared = re.findall(r"^(?:export )?const (\w+) =", text, re.MULTILINE)
    others = "".join(other.read_text() for other in SOURCES if other != path)
    unused = [name for name in declared if len(re.findall(rf"\b{name}\b", text)) < 2]
    assert [name for name in unused if not re.search(rf"\b{name}\b", others)] == []
    groups = re.findall(r"^import \{([^}]*)\} from '", text, re.MULTILINE)
    imported = [name for group in groups for name in re.findall(r"\w+", group)]
    assert [name for name in imported if len(re.findall(rf"\b{name}\b", text)) < 2] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_line_is_no_longer_than_pythons(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_python_file_holds_scripts_or_styles(path: Path) -> None:
    texts = re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL)
    foreign = [
        text for text in texts if sum(bool(FOREIGN.search(s)) for s in text.splitlines()) > 3
    ]
    assert foreign == []


def test_a_script_brings_what_it_imports_once_and_starts_itself(tmp_path: Path) -> None:
    (tmp_path / "one.js").write_text("export const one = 1;\n")
    (tmp_path / "two.js").write_text(
        "import { one } from './one.js';\nexport const two = one + 1;\n"
    )
    (tmp_path / "three.js").write_text(
        "import { one } from './one.js';\nimport {\n  two,\n} from './two.js';\n"
        "export function mount({ element }) { element.sum = one + two; }\n"
    )
    text = component_script(str(tmp_path / "page.py"), "three.js")
    assert text.count("const one") == 1
    assert text.index("const one") < text.index("const two") < text.index("function mount")
    assert "import" not in text
    assert "export" not in text
    assert text.endswith("mount({ element, props, watch, trigger });")
    assert page_script(str(tmp_path / "page.py"), "one.js").startswith("() => {")


def test_the_styles_of_every_tab_are_served() -> None:
    styles = css()
    for path in ROOT.glob("app/**/*.css"):
        assert path.read_text() in styles
