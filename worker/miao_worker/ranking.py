"""Which of several answers are the best."""

from __future__ import annotations

from collections.abc import Sequence

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_worker.answer import Answer


def best_answers(job: Job, answers: Sequence[Answer]) -> list[int]:
    """The indices of as many as the job names, the best first; of equals the first."""
    by_total = job.ranking == pb.RANKING_TOTAL_LOGPROB

    def score(answer: Answer) -> float:
        return answer.total_logprob / (1 if by_total else max(1, len(answer.token_ids)))

    ranked = sorted(answers, key=score, reverse=True)
    return [answer.index for answer in ranked[: job.num_best]]
