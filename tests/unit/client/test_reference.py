"""The reference: every public name is described, and pdoc builds it without a warning."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import miao_client
import miao_client.testing

ROOT = Path(__file__).parents[3]
# Names that say what they count or are.
PLAIN = re.compile(
    r"num_\w+|\w*_tokens|token_ids?|ids|(\w+_)?seconds|\w+_ms(_p\d+)?|\w+_per_second|dimensions|vocab_size"
)
MODULES = [miao_client, miao_client.testing]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public() -> Iterator[tuple[str, Any]]:
    for module in MODULES:
        for name in module.__all__:
            if not name.startswith("__"):
                yield name, getattr(module, name)


def methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in inspect.getmembers(kind):
        function = member.fget if isinstance(member, property) else member
        ours = str(getattr(function, "__module__", "")).startswith("miao_client")
        if not name.startswith("_") and ours and callable(function):
            yield f"{kind.__name__}.{name}", function


def described() -> Iterator[tuple[str, Any]]:
    for name, thing in public():
        if isinstance(thing, type):
            yield name, thing
            yield from methods(thing)
        elif callable(thing):
            yield name, thing


def test_every_public_name_and_method_has_a_docstring(reference: ModuleType) -> None:
    assert [name for name, thing in described() if not inspect.getdoc(thing)] == []
    made = [name for name, thing in described() if (thing.__doc__ or "").startswith(f"{name}(")]
    assert made == []  # which dataclasses make, where there is none
    aliases = [name for name, thing in public() if not isinstance(thing, type | Callable)]  # type: ignore[arg-type]
    assert aliases
    assert [name for name in aliases if not reference.alias_comment(name)] == []


def test_arguments_are_described_all_or_none() -> None:
    for name, thing in described():
        doc = inspect.getdoc(thing) or ""
        function = thing.__init__ if isinstance(thing, type) else thing
        if "Args:" in doc:
            section = doc.partition("Args:")[2].partition("\n\n")[0]
            told = set(re.findall(r"^ {4}\*{0,2}(\w+):", section, re.MULTILINE))
            wanted = set(inspect.signature(function).parameters) - {"self", "clock"}
            assert told == wanted, name


def test_an_error_that_is_raised_is_named_where_a_call_is_described() -> None:
    for kind in (miao_client.Client, miao_client.AsyncClient):
        for name in ("get", "cancel", "model", "embed", "score", "explain", "create", "generate"):
            assert "Raises:" in (inspect.getdoc(getattr(kind, name)) or ""), name


def test_the_reference_is_built_without_a_warning(reference: ModuleType, tmp_path: Path) -> None:
    reference.main(tmp_path)
    page = (tmp_path / "miao_client.html").read_text("utf-8")
    for name in (*miao_client.__all__[:-2], "Client.generate", "AsyncClient.embed"):
        assert f'id="{name}"' in page
    assert "Seconds from acceptance to the end" in page  # a comment behind a field
    assert (tmp_path / "miao_client/testing.html").exists()


@pytest.mark.filterwarnings("ignore:Cannot determine where:UserWarning")  # see reference.py
def test_every_number_says_its_unit_or_range(reference: ModuleType) -> None:
    import pdoc.doc

    lacking = []
    for name in reference.MODULES:
        module = reference.described(pdoc.doc.Module.from_name(name))
        for kind in module.own_members:
            for field in getattr(kind, "own_members", ()):
                is_number = re.search(r"\b(int|float)\b", getattr(field, "annotation_str", ""))
                is_told = field.docstring or re.search(rf"\b{field.name}\b", kind.docstring)
                if is_number and not (is_told or PLAIN.fullmatch(field.name)):
                    lacking.append(field.fullname)
    assert lacking == []
