"""Several answers to one prompt: what a spec asks for, and what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_service.errors import Violation


def violations(spec: pb.GenerationSpec, sampling: pb.Sampling) -> Iterator[Violation]:
    """What is wrong with it, by the sampling in effect."""
    num_best = spec.n or 1
    if spec.HasField("best_of") and spec.best_of < num_best:
        yield Violation("spec.best_of", f"must be at least n, {num_best}, not {spec.best_of}")
    field = "spec.best_of" if spec.HasField("best_of") else "spec.n"
    if max(num_best, spec.best_of) > 1 and sampling.temperature == 0:
        yield Violation(field, "must be 1 with temperature 0, where all answers are the same")
    if spec.ranking and not spec.HasField("best_of"):
        yield Violation("spec.ranking", "has no meaning without best_of")


def write(spec: pb.GenerationSpec, job: Job) -> None:
    """Tell a job how many answers to give, and how many of them to name as the best."""
    job.num_answers = max(1, spec.n, spec.best_of)
    if not spec.HasField("best_of"):
        return
    job.num_best = spec.n or 1
    job.ranking = spec.ranking or pb.RANKING_MEAN_LOGPROB
    if not job.HasField("logprobs"):
        job.logprobs = 0  # the journal then holds what the answers are ranked by
