"""Which channel a client uses, and when another takes its place."""

from __future__ import annotations

import pytest

from miao_client.errors import ClientClosedError, InvalidRequestError
from miao_client.targets import Targets


class Files:
    """What channels are opened with."""

    content: object = 1
    are_readable = True

    def __init__(self) -> None:
        self.opened: list[str] = []

    def connect(self, name: str) -> str:
        if not self.are_readable:
            raise InvalidRequestError.of("tls", "names a file that is being written")
        self.opened.append(f"{name}{len(self.opened)}")
        return self.opened[-1]

    def targets(self, *names: str) -> Targets[str]:
        return Targets(names, self.connect, lambda: self.content)


def test_a_connection_that_breaks_is_made_again_on_its_channel_while_nothing_has_changed() -> None:
    targets = Files().targets("a")
    first = targets.current()
    assert targets.leave(first) == []
    assert targets.current() is first


def test_changed_files_are_read_when_a_connection_breaks_and_not_before() -> None:
    files = Files()
    targets = files.targets("a")
    first = targets.current()
    files.content = 2
    assert targets.current() is first
    assert targets.leave(first) == []
    second = targets.current()
    assert second != first
    assert targets.leave(first) == []  # another caller of the same broken connection
    assert targets.current() is second


def test_a_replaced_channel_is_kept_for_its_calls_until_it_is_two_behind() -> None:
    files = Files()
    targets = files.targets("a")
    first = targets.current()
    files.content = 2
    assert targets.leave(first) == []
    second = targets.current()
    files.content = 3
    assert targets.leave(second) == [first]
    assert targets.close() == [files.opened[-1], second]


def test_each_target_has_its_own_and_the_next_is_called_after_a_break() -> None:
    files = Files()
    targets = files.targets("a", "b")
    first = targets.current()
    files.content = 2
    targets.leave(first)
    other = targets.current()
    assert other == "b2"
    targets.leave(other)
    assert targets.current() == "a1"  # opened anew when it broke


@pytest.mark.parametrize("content", [None, 2])
def test_files_in_the_midst_of_being_replaced_leave_the_channel_as_it_is(content: object) -> None:
    files = Files()
    targets = files.targets("a")
    first = targets.current()
    files.content, files.are_readable = content, False
    assert targets.leave(first) == []
    assert targets.current() is first


def test_a_closed_client_opens_nothing() -> None:
    files = Files()
    targets = files.targets("a")
    first = targets.current()
    targets.close()
    files.content = 2
    assert targets.leave(first) == []
    assert len(files.opened) == 1
    with pytest.raises(ClientClosedError):
        targets.current()
