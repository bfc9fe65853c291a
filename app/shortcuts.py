"""Work that Gradio does at its start, that nobody here needs, and that is left out.

All of it is about a quarter of the time until the page is served. Where another version of Gradio
has other names, nothing is left out and the studio starts as slowly as Gradio does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_MODULE = "gradio.component_meta"


def leave_out_stubs() -> None:
    """Called before gradio is imported: it then writes no type stubs of its components.

    Gradio parses the source of each of them at every import, to write a .pyi file beside it.
    """
    if _MODULE not in sys.modules:
        sys.meta_path.insert(0, _StubFinder())


@contextmanager
def leave_out_servers() -> Iterator[None]:
    """While a page is built: Gradio makes no server for it, but when the page is launched.

    It would make three, for a page that is served without launch().
    """
    from gradio.routes import App

    usual = App.__dict__.get("create_app")
    if usual is None:
        yield
        return
    setattr(App, "create_app", staticmethod(lambda *args, **options: None))  # noqa: B010
    try:
        yield
    finally:
        setattr(App, "create_app", usual)  # noqa: B010


class _StubFinder(MetaPathFinder):
    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)  # type: ignore[arg-type]
        if spec is not None and spec.origin is not None:
            spec.loader = _StubLoader(name, spec.origin)
        return spec


class _StubLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.create_or_modify_pyi = lambda *arguments: None  # type: ignore[attr-defined]
