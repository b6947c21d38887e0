"""The SDK's reference as HTML, from its docstrings: python docs/reference.py FOLDER.

pdoc renders it. What the fields of results and options mean stands in comments behind them, where
whoever changes them sees it; they are read here. A warning is an error.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pdoc.doc
import pdoc.render

import miao_client

MODULES = ("miao_client", "miao_client.testing")
SOURCES = Path(miao_client.__file__).parent


def main(folder: Path) -> None:
    """Write a page for each module, and an index."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A TypedDict forgets which of its bases a key is of; nothing is lost by it.
        warnings.filterwarnings("ignore", r"Cannot determine where miao_client\.\w*Options\.")
        modules = {name: described(pdoc.doc.Module.from_name(name)) for name in MODULES}
        pdoc.render.configure(docformat="google", show_source=False)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in modules.items():
            page = folder / f"{name.replace('.', '/')}.html"
            page.parent.mkdir(exist_ok=True)
            page.write_text(pdoc.render.html_module(module, modules), "utf-8")
        (folder / "index.html").write_text(pdoc.render.html_index(modules), "utf-8")
        (folder / "search.js").write_text(pdoc.render.search_index(modules), "utf-8")


def described(module: pdoc.doc.Module) -> pdoc.doc.Module:
    """The module, its members with all that is said of them in the sources."""
    for member in module.own_members:
        if isinstance(member, pdoc.doc.Class):
            _adopt(member)
            comments = dict(_comments(member.obj))
            for each in member.members.values():
                if each.kind == "variable" and not each.docstring:
                    each.docstring = comments.get(each.name, "")
        elif member.kind == "variable" and not member.docstring:
            member.docstring = alias_comment(member.name)
    return module


def _adopt(kind: pdoc.doc.Class) -> None:
    """Show methods of our own bases, such as those of `Client`, as the class's own."""
    for member in kind.members.values():
        if member.taken_from[0].startswith("miao_client."):
            member.taken_from = (kind.modulename, member.qualname)


def _comments(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """The fields of a class and its bases, each with the comment behind it."""
    if kind.__module__.startswith("miao_client"):
        source = inspect.getsource(kind)
        # By its source, since a TypedDict does not say its bases.
        for name in re.findall(r"\w+", source[source.index("class ") :].partition(":\n")[0])[2:]:
            base = getattr(sys.modules[kind.__module__], name, None)
            yield from _comments(base) if isinstance(base, type) else ()
        field = re.compile(r"^    (\w+)(?:: [^#\n]+| = [^#\n]+)  # (.+)$", re.MULTILINE)
        for name, comment in field.findall(source):
            yield name, f"{comment[0].upper()}{comment[1:].rstrip('.')}."


def alias_comment(name: str) -> str:
    """What stands above a type's alias, or behind it."""
    alias = re.compile(rf"((?:^# .*\n)*)^{name}: TypeAlias = .*?(?:  # (.+))?$", re.MULTILINE)
    for file in sorted(SOURCES.rglob("*.py")):
        if found := alias.search(file.read_text("utf-8")):
            above = " ".join(line.removeprefix("# ") for line in found[1].splitlines())
            return above or found[2] or ""
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
