"""Explanations in the SDK: requests, sums, and both views."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from miao.v1 import explain_service_pb2 as rpc
from miao.v1 import explanation_pb2 as pb
from miao_client import (
    Attribution,
    ExplainMethod,
    Explanation,
    InputToken,
    InvalidRequestError,
    LabelScore,
    OutputToken,
    Timings,
    TokenIds,
    TopLogprob,
)
from miao_client.cli.explain import show
from miao_client.explaining import explain_label, explain_output
from miao_client.explanation_view import Piece, pieces, strength
from miao_client.responses import explain_method

EVIL = "<script>alert('x')</script>\"&\x1b[31m\u202e</style><img src=x onerror=y>"


def explanation(text: str = "春 fox", said: str = "ok", **changes: Any) -> Explanation:
    """Of an input of one token for each character but the first, which takes two."""
    ends = [len(text[: i + 1].encode()) for i in range(len(text))]
    starts = [0, *ends[:-1]]
    tokens = [InputToken(9, "", 0, 0, ends[0], False)] if text else []
    tokens += [InputToken(i, text[i], 0, starts[i], ends[i], False) for i in range(len(text))]
    scores = tuple(float(i - 1) for i in range(len(tokens)))
    candidates = (TopLogprob(1, -0.1, said), TopLogprob(2, -2.5, text))
    values: dict[str, Any] = {
        "method": ExplainMethod.INTEGRATED_GRADIENTS,
        "texts": (text,),
        "input": tuple(tokens),
        "output": (OutputToken(1, said, -0.1, candidates), OutputToken(3, said, -3.0, ())),
        "attributions": (
            Attribution(0, None, scores, -0.1, -4.0, 0.02),
            Attribution(1, None, scores, -3.0, -5.0, -0.5),
        ),
        "labels": (),
        "request_id": "r",
        "model": "m",
        "timings": Timings(0.1, None, 0.5),
    }
    return Explanation(**(values | changes))


def classification(label: str = "praise") -> Explanation:
    text = "很好 <b>"
    places = [(0, 3), (3, 6), (7, 10)]
    tokens = [InputToken(101, "[CLS]", 0, 0, 0, True)]
    tokens += [InputToken(i, "?", 0, start, end, False) for i, (start, end) in enumerate(places)]
    return explanation(
        texts=(text,),
        input=tuple(tokens),
        output=(),
        attributions=(Attribution(None, label, (0.0, 1.0, -2.0, 0.5), -0.2, None, None),),
        labels=(LabelScore(label, 0.8), LabelScore("blame", 0.2)),
    )


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


SAFE_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "input", "div", "label"),
    *("section", "span", "i", "table", "tr", "td", "b", "details", "summary"),
}
SAFE_ATTRIBUTES = {
    *("charset", "http-equiv", "content", "name", "type", "id", "checked", "for", "class"),
    *("title", "style"),
}


@given(st.text(max_size=12), st.text(max_size=6))
def test_nothing_of_a_text_becomes_markup(text: str, said: str) -> None:
    reader = Reader(explanation(text + EVIL, said + EVIL, model=EVIL).to_html())
    assert reader.tags <= SAFE_TAGS
    assert reader.attributes <= SAFE_ATTRIBUTES
    assert "<script>alert('x')</script>" in reader.text.replace("\n", "")
    assert not {"\x1b", "\u202e"} & set(reader.text)
    labelled = Reader(classification(EVIL).to_html())
    assert labelled.tags <= SAFE_TAGS
    assert labelled.attributes <= SAFE_ATTRIBUTES


def test_the_page_loads_nothing_and_shows_each_token() -> None:
    page = explanation().to_html()
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page
    assert page.count('type="radio"') == 3  # all of it, and each token
    assert "add up within 0.5" in page
    assert "What spoke for the label praise" in classification().to_html()


def test_the_shares_of_all_tokens_add_up() -> None:
    assert explanation().total == (-2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
    assert explanation().output_text == "okok"


def test_tokens_of_one_character_are_one_piece() -> None:
    found = explanation()
    ((first, *rest),) = pieces(found, found.total)
    assert first == Piece("春", -2.0)
    assert "".join(piece.text for piece in (first, *rest)) == found.texts[0]


def test_what_no_token_covers_is_shown_without_a_share() -> None:
    found = classification()
    ((*texts,),) = pieces(found, found.total)
    assert texts == [Piece("很", 1.0), Piece("好", -2.0), Piece(" ", None), Piece("<b>", 0.5)]


def test_words_are_seen_beside_marks_with_larger_shares() -> None:
    assert strength([[Piece("\n", 90.0), Piece("<s>", 80.0, True), Piece("fox", -2.0)]]) == 2.0
    assert strength([[Piece("。", 3.0), Piece("！", -4.0)]]) == 4.0
    assert strength([[]]) == 1.0


@pytest.mark.parametrize("found", [explanation(EVIL), classification()])
def test_the_terminal_shows_it_and_is_not_steered(found: Explanation) -> None:
    plain = io.StringIO()
    show(found, Console(file=plain, width=160, markup=False, highlight=False))
    assert "\x1b" not in plain.getvalue()
    coloured = io.StringIO()
    console = Console(
        file=coloured, width=160, force_terminal=True, color_system="truecolor", markup=False
    )
    show(found, console)
    assert "48;2;" in coloured.getvalue()
    assert "\x1b[31m" not in coloured.getvalue()


def test_an_output_is_asked_for_in_the_contracts_fields() -> None:
    options: Any = {
        "model": "m", "method": "integrated_gradients", "steps": 8, "output": TokenIds([4, 5]),
        "positions": [0], "whole_output": True, "candidates": 2, "priority": "low",
        "queue_timeout": 1.5, "request_id": "r",
    }  # fmt: skip
    request = explain_output([{"role": "user", "content": "hi"}], options).request
    assert isinstance(request, rpc.ExplainRequest)
    spec = request.spec
    assert spec.chat.messages[0].content == "hi"
    assert list(spec.output_token_ids.ids) == [4, 5]
    assert spec.method == pb.EXPLAIN_METHOD_INTEGRATED_GRADIENTS
    assert (spec.steps, list(spec.positions), spec.whole_output) == (8, [0], True)
    assert (spec.candidates, spec.handling.queue_timeout.nanos) == (2, 500_000_000)
    plain = explain_output("hi", {"output": "there", "max_tokens": None}).request
    assert isinstance(plain, rpc.ExplainRequest)
    assert (plain.spec.prompt, plain.spec.output_text) == ("hi", "there")
    assert not plain.spec.HasField("max_tokens")
    assert len(plain.request_id) == 32


def test_a_label_is_asked_for_in_the_contracts_fields() -> None:
    request = explain_label(("a", "b"), {"label": "praise"}).request
    assert isinstance(request, rpc.ExplainRequest)
    assert (request.spec.classify.text, request.spec.classify.text_pair) == ("a", "b")
    assert request.spec.label == "praise"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"method": "magic"}, "spec.method"),
        ({"steps": -1}, "spec.steps"),
        ({"positions": [-1]}, "spec.positions"),
        ({"timeout": 0.0}, "spec.handling.timeout"),
        ({"priority": "urgent"}, "spec.handling.priority"),
        ({"output": "\ud800"}, "spec.output_text"),
    ],
)
def test_what_does_not_fit_names_its_field(options: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        explain_output("x", options)
    assert [violation.field for violation in refused.value.violations] == [field]


@pytest.mark.parametrize("number", pb.ExplainMethod.values())
def test_every_method_is_known(number: int) -> None:
    name = pb.ExplainMethod.Name(number).removeprefix("EXPLAIN_METHOD_")
    assert explain_method(number).name == name
    assert explain_method(99) == "unspecified"
