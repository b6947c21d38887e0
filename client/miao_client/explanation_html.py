"""An explanation as a page by itself: no script, nothing loaded, all text escaped.

Each thing that is explained has a radio button, hidden, which shows its panel:

    #thing-2:checked ~ .panels .panel-2 { display: block }
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from miao_client.explanation_results import Attribution, Explanation, OutputToken
from miao_client.explanation_view import METHODS, Piece, depth, pieces, probability, strength

_FOR, _AGAINST = "232, 89, 12", "25, 113, 194"  # orange and blue: told apart by any eye
_FAINT = 0.04  # a share below which nothing is coloured

_STYLE = """
:root { color-scheme: light; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #212529; background: #fff;
  font: 16px/1.6 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .2rem; }
h2 { font-size: .8rem; margin: 1.6rem 0 .4rem; color: #868e96; text-transform: uppercase;
  letter-spacing: .06em; }
.about { color: #868e96; margin: 0; }
input[type=radio] { position: absolute; opacity: 0; }
.answer, .text { padding: .8rem 1rem; border: 1px solid #dee2e6; border-radius: .5rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1.15rem; line-height: 2; }
.text + .text { margin-top: .5rem; }
.text span { padding: .12em 0; border-radius: .2em; }
.special { color: #868e96; font-size: .8em; }
.answer label { cursor: pointer; padding: .15em .05em; margin: 0 1px;
  border-bottom: 3px solid #dee2e6; }
.answer label:hover { background: #f1f3f5; }
.answer .all { margin-right: .8em; padding: .1em .6em; border: 1px solid #ced4da;
  border-radius: 1em; font-size: .8em; }
.panel { display: none; }
.legend { display: flex; align-items: center; gap: .6em; color: #868e96; font-size: .85rem;
  margin: .5rem 0 0; }
.legend i { width: 12rem; height: .6em; border-radius: .3em; background: linear-gradient(
  to right, rgba(AGAINST, .9), rgba(AGAINST, 0) 50%, rgba(FOR, 0) 50%, rgba(FOR, .9)); }
.bars { border-collapse: collapse; }
.bars td { padding: .1rem .8rem .1rem 0; white-space: pre; vertical-align: middle; }
.bars .number { text-align: right; font-variant-numeric: tabular-nums; }
.bars b { display: inline-block; height: .8em; background: #868e96; border-radius: .15em;
  min-width: 1px; }
.bars .chosen b { background: #2f9e44; }
.bars .chosen { font-weight: 600; }
details { margin-top: 1.6rem; color: #495057; }
summary { cursor: pointer; color: #868e96; }
""".replace("FOR", _FOR).replace("AGAINST", _AGAINST)


def page(explanation: Explanation) -> str:
    """The whole page."""
    things: list[Attribution | None] = list(explanation.attributions)
    if len(things) > 1:
        things.insert(0, None)  # all of them together
    buttons = "".join(
        f'<input type="radio" name="thing" id="thing-{i}"{" checked" if i == 0 else ""}>'
        for i in range(len(things))
    )
    rules = "".join(
        f"#thing-{i}:checked ~ .panels .panel-{i} {{ display: block }}\n"
        f'#thing-{i}:checked ~ .answer label[for="thing-{i}"] '
        "{ background: #ffec99 }\n"
        f'#thing-{i}:focus-visible ~ .answer label[for="thing-{i}"] '
        "{ outline: 2px solid #1971c2 }\n"
        for i in range(len(things))
    )
    panels = "".join(
        f'<section class="panel panel-{i}">{_panel(explanation, thing)}</section>'
        for i, thing in enumerate(things)
    )
    title = f"{_shown(explanation.model)}: what carried the answer"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}{rules}</style></head>\n<body>\n"
        f"<h1>{title}</h1>\n{_about(explanation)}\n{buttons}\n"
        f"{_answer(explanation, things)}\n"
        f'<div class="panels">{panels}</div>\n</body></html>\n'
    )


def _about(explanation: Explanation) -> str:
    parts = [f"by {METHODS[explanation.method]}"]
    seconds = explanation.timings.total_seconds
    if seconds is not None:
        parts.append(f"in {seconds:.2f} s")
    deltas = [abs(each.delta) for each in explanation.attributions if each.delta is not None]
    if deltas:
        parts.append(f"scores add up within {max(deltas):.2g}")
    return f'<p class="about">{", ".join(parts)}</p>'


def _answer(explanation: Explanation, things: Sequence[Attribution | None]) -> str:
    """What was said, each explained token a button; or the labels."""
    if explanation.labels:
        said = next(each.label for each in things if each is not None)
        return _labels(explanation, said or "")
    buttons = {
        thing.output_index: i
        for i, thing in enumerate(things)
        if thing is not None and thing.output_index is not None
    }
    parts = []
    if things[0] is None or things[0].output_index is None:
        parts.append('<label class="all" for="thing-0">all of it</label>')
    for place, token in enumerate(explanation.output):
        text = _shown(token.text)
        if place in buttons:
            line = f"rgba(73, 80, 87, {0.15 + 0.85 * (1 - min(1.0, token.probability)):.2f})"
            text = (
                f'<label for="thing-{buttons[place]}" style="border-color: {line}" '
                f'title="{probability(token.logprob)}">{text}</label>'
            )
        parts.append(text)
    hint = "choose a token to see what spoke for it; a dark line: something else was likely"
    return (
        f'<h2>The answer</h2>\n<div class="answer">{"".join(parts)}</div>\n'
        f'<p class="legend answer-legend">{hint}</p>'
    )


def _labels(explanation: Explanation, explained: str) -> str:
    rows = [(each.label, each.score, each.label == explained) for each in explanation.labels]
    return f"<h2>The labels</h2>\n{_bars(rows)}"


def _panel(explanation: Explanation, thing: Attribution | None) -> str:
    scores = explanation.total if thing is None else thing.scores
    texts = pieces(explanation, scores)
    top = strength(texts)
    shown = "".join(f'<div class="text">{_text(text, top)}</div>' for text in texts)
    parts = [
        f"<h2>{_what(explanation, thing)}</h2>{shown}",
        f'<p class="legend">against −{top:.2f} <i></i> +{top:.2f} for</p>',
    ]
    if thing is not None and thing.output_index is not None:
        parts.append(_candidates(explanation.output[thing.output_index]))
    parts.append(_numbers(texts))
    return "".join(parts)


def _what(explanation: Explanation, thing: Attribution | None) -> str:
    if thing is None or (thing.output_index is None and thing.label is None):
        return "What spoke for all of it"
    if thing.label is not None:
        return f"What spoke for the label {_shown(thing.label)}"
    token = explanation.output[thing.output_index or 0]
    return f"What spoke for “{_shown(token.text)}” ({probability(token.logprob)})"


def _text(text: Sequence[Piece], top: float) -> str:
    return "".join(_piece(piece, top) for piece in text)


def _piece(piece: Piece, top: float) -> str:
    text = _shown(piece.text)
    if piece.score is None:
        return text
    share = depth(piece.score, top)
    colour = _FOR if share > 0 else _AGAINST
    marks = f' title="{piece.score:+.3f}"'
    if abs(share) > _FAINT:
        marks += f' style="background: rgba({colour}, {0.9 * abs(share):.2f})"'
    if piece.is_special:
        marks += ' class="special"'
    return f"<span{marks}>{text}</span>"


def _candidates(token: OutputToken) -> str:
    if not token.candidates:
        return ""
    rows = [
        (each.text, math.exp(each.logprob), each.token_id == token.token_id)
        for each in token.candidates
    ]
    if not any(chosen for _, _, chosen in rows):
        rows.append((token.text, token.probability, True))
    return f"<h2>What it could have said here</h2>{_bars(rows)}"


def _bars(rows: Sequence[tuple[str, float, bool]]) -> str:
    lines = []
    for text, score, is_chosen in rows:
        kind = ' class="chosen"' if is_chosen else ""
        width = 16 * min(1.0, max(0.0, score))
        number = f"{100 * score:.1f} %" if 0 <= score <= 1 else f"{score:.3f}"
        lines.append(
            f'<tr{kind}><td>{_shown(text)}</td><td class="number">{number}</td>'
            f'<td><b style="width: {width:.2f}rem"></b></td></tr>'
        )
    return f'<table class="bars">{"".join(lines)}</table>'


def _numbers(texts: Sequence[Sequence[Piece]]) -> str:
    scored = [piece for text in texts for piece in text if piece.score is not None]
    ordered = sorted(scored, key=lambda piece: -abs(piece.score or 0.0))
    rows = "".join(
        f'<tr><td class="number">{piece.score:+.4f}</td><td>{_shown(piece.text)}</td></tr>'
        for piece in ordered
    )
    return f'<details><summary>the numbers</summary><table class="bars">{rows}</table></details>'


def _shown(text: str) -> str:
    """Text to read: escaped, with its line ends and what cannot be seen made visible."""
    if not text:
        return "∅"
    return escape(text.translate(_UNSEEN))


# Characters that would hide, reorder or break what is shown. Line ends keep breaking the line.
_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
_UNSEEN |= {
    code: f"\\u{code:04x}"
    for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_UNSEEN |= {0x0A: "↵\n", 0x09: "→\t"}
