"""A worker that answers everything with a few tokens, in a thread of its own."""

from __future__ import annotations

import random
import threading

from redis.exceptions import RedisError

from miao.v1 import generation_pb2 as pb
from tests.integration.service.conftest import Claimed, ScriptedWorker, card


class EchoWorker(ScriptedWorker):
    """Takes what is queued, says some of it back, and heeds cancellations."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url, card())
        self._rng = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="echo-worker")

    def __enter__(self) -> EchoWorker:
        self.announce()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.redis.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                claimed = self.claim()
                if claimed is not None:
                    self._answer(claimed)
            except RedisError:
                claimed = None
            if claimed is None:
                self._stopping.wait(0.005)

    def _answer(self, claimed: Claimed) -> None:
        for _ in range(self._rng.choice([0, 1, 3, 10])):
            text = self._rng.choice(["a", "为", "😀b", "xyz"])
            if self.append(claimed, pb.Tokens(text=text, token_ids=map(ord, text))) == 1:
                self.finish(claimed, pb.FINISH_REASON_CANCELLED)
                return
        self.finish(claimed)
