"""Scripts, styles and templates of the page: files beside the module that shows them.

A script is an ES module. It exports `mount`, which draws a component of the page, and the plain
functions that its tests call. Gradio takes one text for each component, so the files that a script
imports are put in front of it here.
"""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r"^import \{[^}]*\} from '([^']+)';\n", re.MULTILINE)


def template(module: str, *names: str) -> str:
    """The HTML in files beside a module (its `__file__`), one after another."""
    return "".join((Path(module).parent / name).read_text() for name in names)


def component_script(module: str, name: str, *, asks_server: bool = False) -> str:
    """A script beside a module, for `js_on_load` of a gr.HTML.

    asks_server: its `mount` also takes `server`, the component's server functions.
    """
    names = "element, props, watch, trigger" + (", server" if asks_server else "")
    return f"{_bundle(Path(module).parent / name)}\nmount({{ {names} }});"


def page_script(module: str, name: str) -> str:
    """A script beside a module, to run once when the page is opened."""
    return f"() => {{\n{_bundle(Path(module).parent / name)}\nmount();\n}}"


def _bundle(path: Path) -> str:
    """A module behind everything it imports, each file once, as one text without exports."""
    found: dict[Path, str] = {}

    def add(file: Path) -> None:
        if file in found:
            return
        text = file.read_text()
        for other in _IMPORT.findall(text):
            add((file.parent / other).resolve())
        found[file] = re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)

    add(path.resolve())
    return "\n".join(found.values())
