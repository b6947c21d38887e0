"""The processes that compute a model together with this one, which leads them.

They are forked from it before it has a thread or a device, so they are there at once.
None outlives it, and it outlives none: what is left of a model without one of its ranks
computes nothing. Whoever started this process starts another, as after any death.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from miao_worker import prctl
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.tensor_parallel.group import Group

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    RankPipe = Connection[Any, Any]
    Follow = Callable[[Group, RankPipe], None]  # what a following rank does, until its pipe ends


class Closable(Protocol):
    """Something that a forked process inherits and must not keep open."""

    def close(self) -> None: ...


class Ranks:
    """The first rank's hold on the others: a pipe to each."""

    def __init__(self, group: Group, pipes: list[RankPipe]) -> None:
        self.group = group
        self._pipes = pipes

    @classmethod
    def fork(cls, size: int, follow: Follow, *inherited: Closable) -> Ranks:
        """Start the other ranks of `size`. To be called before anything has a thread.

        From now on this process ends, with status 1, when one of them does.
        inherited: what they are to close.
        """
        store = f"/proc/self/fd/{os.memfd_create('miao-ranks')}"  # a file that no one else sees
        pipes: list[RankPipe] = []
        lifelines: dict[int, int] = {}  # what ends with a rank, and its process
        for rank in range(1, size):
            ours, theirs = Pipe()
            life, theirs_life = os.pipe()
            if not (pid := os.fork()):
                for each in (ours, *pipes, *inherited):
                    each.close()
                for fd in (life, *lifelines):
                    os.close(fd)
                _run(Group(rank, size, store), follow, theirs)
            theirs.close()
            os.close(theirs_life)
            pipes.append(ours)
            lifelines[life] = pid
        threading.Thread(target=_end_with, args=(lifelines,), daemon=True).start()
        return cls(Group(0, size, store), pipes)

    def send(self, message: object) -> None:
        """Tell every other rank."""
        for pipe in self._pipes:
            pipe.send(message)

    def send_bytes(self, data: bytes) -> None:
        """Tell every other rank, in the form that is cheap to send."""
        for pipe in self._pipes:
            pipe.send_bytes(data)

    def collect(self) -> list[Any]:
        """What each of the others says; raises ModelLoadError where one says that it cannot."""
        said = [pipe.recv() for pipe in self._pipes]
        for rank, each in enumerate(said, start=1):
            if isinstance(each, ModelLoadError):
                raise ModelLoadError(f"Rank {rank}: {each}")
        return said


def _run(group: Group, follow: Follow, pipe: RankPipe) -> None:
    """Be a following rank; never returns."""
    leader = os.getppid()
    status = 1
    try:
        prctl.end_with_parent(signal.SIGKILL)  # also from the midst of an exchange
        if os.getppid() == leader:
            prctl.set_name(f"miao-rank-{group.rank}")
            follow(group, pipe)
            status = 0
    except BaseException:
        _log.exception("rank %d of the model fails", group.rank)
    finally:
        os._exit(status)


def _end_with(lifelines: dict[int, int]) -> None:
    """Leave at once when another rank fails, even from the midst of an exchange with it."""
    life, *_ = wait(list(lifelines))
    assert isinstance(life, int)
    _, status = os.waitpid(lifelines[life], 0)
    if status != 0:  # it was not told to end
        _log.error("rank %d of the model has ended", 1 + list(lifelines).index(life))
        os._exit(1)
