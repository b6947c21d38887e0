"""Workers that answer everything with a little, each in a thread of its own."""

from __future__ import annotations

import random
import struct
import threading

from redis.exceptions import RedisError

from miao.internal.v1.queue_pb2 import (
    EncoderCard,
    ExplanationEntry,
    ExplanationResult,
    Job,
    ModelCard,
    UnderstandingEntry,
    UnderstandingResult,
)
from miao.v1 import explanation_pb2 as explanation
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao_queue import records
from tests.integration.service.conftest import Claimed, ScriptedWorker, card

_DIMENSIONS = 8
_EXPLAINS = list(filter(None, explanation.ExplainMethod.values()))
_EVENT_TOKENS = 200  # of a prompt that is scored


def encoder_cards() -> list[ModelCard]:
    """A model that embeds, and one that ranks and classifies."""
    embeds = EncoderCard(embedding_dimensions=_DIMENSIONS, prompts={"query": "q: "})
    ranks = EncoderCard(labels=["relevant"])
    tasks = [understanding.TASK_CLASSIFY, understanding.TASK_RERANK]
    return [
        card("vectors", chat_template="", tasks=[understanding.TASK_EMBED], encoder=embeds),
        card("ranks", chat_template="", tasks=tasks, encoder=ranks, explain_methods=_EXPLAINS),
    ]


class EchoWorker(ScriptedWorker):
    """Takes what is queued, says some of it back, and heeds cancellations."""

    def __init__(self, url: str, seed: int, model_card: ModelCard | None = None) -> None:
        super().__init__(url, model_card or card(explain_methods=_EXPLAINS))
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
        job = Job.FromString(claimed.state[b"job"])
        if job.HasField("understanding"):
            self._finish_encoding(claimed, job)
            return
        if job.HasField("explanation"):
            self._finish_explaining(claimed, job)
            return
        if job.HasField("prompt_logprobs") and not self._score(claimed, job):
            return
        if job.max_tokens:
            for _ in range(self._rng.choice([0, 1, 3, 10])):
                text = self._rng.choice(["a", "为", "😀b", "xyz"])
                if self._is_cancelled(claimed, pb.Tokens(text=text, token_ids=map(ord, text))):
                    return
        self.finish(claimed, pb.FINISH_REASON_STOP if job.max_tokens else pb.FINISH_REASON_LENGTH)

    def _score(self, claimed: Claimed, job: Job) -> bool:
        """Say how likely the prompt is; False where it was cancelled meanwhile."""
        token_ids = job.prompt_token_ids[job.echo_from :]
        top = [pb.TopLogprob(token_id=1, logprob=-1, text="a")] * job.prompt_logprobs
        for begin in range(0, len(token_ids), _EVENT_TOKENS):
            part = token_ids[begin : begin + _EVENT_TOKENS]
            tokens = pb.Tokens(text="a" * len(part), token_ids=part, is_prompt=True)
            tokens.logprobs.extend([pb.TokenLogprobs(logprob=-1, top=top)] * len(part))
            if self._is_cancelled(claimed, tokens):
                return False
        return True

    def _is_cancelled(self, claimed: Claimed, tokens: pb.Tokens) -> bool:
        """Write tokens; whether the caller has cancelled, which ends it."""
        if self.append(claimed, tokens) != 1:
            return False
        self.finish(claimed, pb.FINISH_REASON_CANCELLED)
        return True

    def _finish_encoding(self, claimed: Claimed, job: Job) -> None:
        asked = job.understanding
        embeds = asked.task == understanding.TASK_EMBED
        size = (asked.dimensions or _DIMENSIONS) if embeds else 1
        row = struct.pack(f"<{size}f", *[0.5] * size)
        result = UnderstandingResult(rows=[row] * len(asked.inputs))
        self._finish_with(claimed, UnderstandingEntry(result=result))

    def _finish_explaining(self, claimed: Claimed, job: Job) -> None:
        asked, result = job.explanation, ExplanationResult()
        count = len(asked.input.token_ids) or len(job.prompt_token_ids)
        if asked.HasField("input"):
            result.label_scores.append(0.5)
            result.attributions.add(scores=[0.5] * count, value=-1)
        else:
            token = explanation.OutputToken(token_id=1, text="a", logprob=-1)
            token.candidates.extend([pb.TopLogprob(token_id=1, text="a")] * asked.num_candidates)
            result.input_texts.extend(["a"] * count)
            result.output.append(token)
            result.attributions.add(output_index=0, scores=[0.5] * count, value=-1)
        self._finish_with(claimed, ExplanationEntry(result=result))

    def _finish_with(self, claimed: Claimed, entry: UnderstandingEntry | ExplanationEntry) -> None:
        """End a job that is answered once, with its answer."""
        reason, accept_ms = pb.FINISH_REASON_STOP, claimed.record.accept_ms
        finished = records.finished_message(claimed.record, reason, accept_ms + 5)
        entry.event.finished.CopyFrom(finished)
        self._finish(
            args=[
                *(claimed.generation_id, claimed.owner, 0, entry.SerializeToString()),
                *(finished.SerializeToString(), claimed.record.retention_seconds),
            ]
        )
