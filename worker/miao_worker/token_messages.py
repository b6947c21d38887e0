"""The engine's log-probabilities as the contract has them."""

from __future__ import annotations

from collections.abc import Callable

from miao.v1 import generation_pb2 as pb
from miao_worker.engine.types import TokenLogprobs

TokenText = Callable[[int], str]  # a token's text by itself


def logprobs_message(logprobs: TokenLogprobs, token_text: TokenText) -> pb.TokenLogprobs:
    """A token's log-probability and the likeliest in its place."""
    top = [
        pb.TopLogprob(token_id=token_id, logprob=logprob, text=token_text(token_id))
        for token_id, logprob in logprobs.top
    ]
    return pb.TokenLogprobs(logprob=logprobs.logprob, top=top)
