"""Key rings: what a file must hold, and what is made of a key."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from miao_queue.key_ring import KeyRing, KeyRingError, new_line

KEY = base64.b64encode(bytes(range(32))).decode()


def ring(folder: Path, text: str) -> KeyRing:
    path = folder / "ring"
    path.write_text(text, "utf-8")
    return KeyRing.read(str(path))


def test_the_first_key_makes_what_is_new_and_all_are_known(tmp_path: Path) -> None:
    made = ring(tmp_path, f"# two\n{new_line('k2')}  # today's\n\nk1 {KEY}\n")
    assert (made.current_id, list(made.keys)) == ("k2", ["k2", "k1"])
    assert made.keys["k1"] == bytes(range(32))


def test_each_purpose_has_a_key_of_its_own(tmp_path: Path) -> None:
    made = ring(tmp_path, f"a {KEY}\nb {new_line('b').split()[1]}")
    purposes = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x", "y"), ("a", "xy")]
    assert len({made.derive(*purpose) for purpose in purposes}) == len(purposes)
    assert made.derive("a", "x") == made.derive("a", "x")
    assert made.derive("a", "x") != made.keys["a"]
    with pytest.raises(KeyError):
        made.derive("c", "x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        (KEY, "line 1 .* must be an id and a key"),
        (f"k1 {KEY} more", "line 1 .* must be an id and a key"),
        (f"k_1 {KEY}", "line 1 .* must be an id and a key"),
        ("k1 !!!!", "line 1 .* not base64"),
        ("k1 c2hvcnQ=", "line 1 .* less than 32 bytes"),
        (f"k1 {KEY}\nk1 {KEY}", "line 2 .* repeats the id k1"),
    ],
)
def test_a_file_that_is_no_ring_is_refused_without_its_keys(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(KeyRingError, match=complaint) as caught:
        ring(tmp_path, text)
    assert KEY not in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="No such file"):
        KeyRing.read(str(tmp_path / "none"))


def test_nothing_shows_a_key() -> None:
    assert "secret" not in repr(KeyRing({"k": b"secret" * 6}))
    with pytest.raises(KeyRingError):
        new_line("no good id")
