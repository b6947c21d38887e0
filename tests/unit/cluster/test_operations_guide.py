"""docs/operations.md names what there is: alerts, commands, options, settings, metrics, pages."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import typer
import yaml

from miao_client.cli.app import app
from miao_client.cli.servers import SERVERS

from .manifests import ROOT

GUIDE = ROOT / "docs/operations.md"
TEXT = GUIDE.read_text("utf-8")
COMMANDS: Any = typer.main.get_command(app)
MODULES = {server.name: server.module for server in SERVERS}

CODE = re.compile(r"^```\n(?P<block>.*?)^```$|`(?P<span>[^`\n]+)`", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SETTING = re.compile(r"\b(?:MIAO_[A-Z_]+|REDIS_URL)\b")
QUOTED = re.compile(rf"\"({SETTING.pattern})\"")
METRIC = re.compile(r"(?<![\w.*/])miao_[a-z_]+")
THEIRS = re.compile(r"(kubectl|redis-cli|pip|rq) |--rdb$")  # what other programs are told


@cache
def options_of(*words: str) -> frozenset[str]:
    """What `miao WORDS` takes, as its help says. Raises KeyError where there is no such command."""
    if words[0] in MODULES:
        said = io.StringIO()
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(io.StringIO()),
            pytest.raises(SystemExit) as ended,
        ):
            import_module(MODULES[words[0]]).main([*words[1:], "--help"])
        if ended.value.code:
            raise KeyError(words)
        return frozenset(OPTION.findall(said.getvalue()))
    command = COMMANDS
    for word in words:
        command = command.commands[word]
    return frozenset(name for each in command.params for name in each.opts)


def every_option() -> frozenset[str]:
    """What any command takes that this guide is about."""
    commands: list[tuple[str, ...]] = [(name,) for name in MODULES]
    commands += [("keys", name) for name in ("create", "list", "revoke")]
    return frozenset(option for words in commands for option in options_of(*words))


def codes(text: str) -> Iterator[str]:
    """Each piece of code: a line of a block, or what stands within a sentence."""
    for found in CODE.finditer(text):
        yield from (found["block"] or found["span"]).splitlines()


def words_of(code: str) -> tuple[str, ...]:
    """The names of a command in a line that begins with `miao`."""
    words = code.partition("#")[0].split()[1:]
    depth = 2 if words[0] in ("keys", "plan") and words[1:] else 1
    return tuple(words[:depth])


def unknown_commands(text: str) -> Iterator[str]:
    known = every_option()
    for code in codes(text):
        mine = known
        if code.startswith("miao "):
            try:
                mine = options_of(*words_of(code))
            except KeyError:
                yield code
                continue
        if not THEIRS.match(code):
            yield from (option for option in OPTION.findall(code) if option not in mine)


def unknown_settings(text: str) -> Iterator[str]:
    parts = ("client/miao_client", "service/miao_service", "worker/miao_worker")
    files = (path for part in parts for path in (ROOT / part).rglob("*.py"))
    read = {name for path in files for name in QUOTED.findall(path.read_text("utf-8"))}
    yield from sorted(set(SETTING.findall(text)) - read)


def unknown_metrics(text: str) -> Iterator[str]:
    table = (ROOT / "docs/observability.md").read_text("utf-8")  # another test holds it
    known = set(re.findall(r"^\| `(miao_\w+)` \|", table, re.MULTILINE))
    yield from sorted({name.removesuffix("_total") for name in METRIC.findall(text)} - known)


def unknown_places(text: str) -> Iterator[str]:
    pages = [(page, GUIDE.parent / page) for page in re.findall(r"\]\(([^)#]+)[^)]*\)", text)]
    files = re.findall(r"`((?:tests|deploy|proto)/[^`]*)`", text)
    pages += [(name, ROOT / name) for name in files]
    yield from (name for name, path in pages if not path.exists())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    yield from (name for name in re.findall(r"\]\(#([^)]*)\)", text) if name not in anchors)


def strangers(text: str) -> Iterator[str]:
    """What a text names and the code does not have."""
    for look in (unknown_commands, unknown_settings, unknown_metrics, unknown_places):
        yield from look(text)


def alerts() -> list[str]:
    rules = yaml.safe_load((ROOT / "deploy/monitoring/rules.yml").read_text("utf-8"))
    found = [rule.get("alert") for group in rules["groups"] for rule in group["rules"]]
    return [name for name in found if name]


def test_every_alert_has_its_part_and_every_part_its_alert() -> None:
    parts = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
    found = {part.split("\n")[0]: part for part in parts if re.match(r"Miao[A-Z]", part)}
    assert list(found) == alerts()
    for name, part in found.items():
        assert all(f"**{what}**" in part for what in ("Means", "Look at", "Do")), name


def test_alerts_that_other_parts_name_are_alerts() -> None:
    assert set(re.findall(r"\bMiao[A-Z]\w+", TEXT)) == set(alerts())


def test_the_guide_names_nothing_that_there_is_not() -> None:
    assert list(strangers(TEXT)) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("`miao restore`", "miao restore"),
        ("`miao keys rotate p2`", "miao keys rotate p2"),
        ("`miao plan grow`", "miao plan grow"),
        ("`miao top --forever`", "--forever"),
        ("```\nmiao keys list --pepper FILE\n```", "--pepper"),
        ("`--grace-seconds` (5)", "--grace-seconds"),
        ("`MIAO_DRAIN`", "MIAO_DRAIN"),
        ("`miao_front_errors_total`", "miao_front_errors"),
        ("[a page](nowhere.md#x)", "nowhere.md"),
        ("[a part](#nowhere)", "nowhere"),
        ("`tests/nowhere.py`", "tests/nowhere.py"),
    ],
)
def test_what_there_is_not_is_found(planted: str, found: str) -> None:
    assert list(strangers(planted)) == [found]
