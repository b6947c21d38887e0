"""Log-probabilities of the chosen tokens, for the rows that ask for them."""

from __future__ import annotations

from collections.abc import Sequence as Items

import torch
from torch import Tensor

from miao_worker.engine.types import TokenLogprobs


def token_logprobs(
    logits: Tensor, token_ids: Items[int | None], num_logprobs: Items[int | None]
) -> list[TokenLogprobs | None]:
    """Under the raw logits, in float32; None for rows that did not ask or have no token.

    Shapes: logits (rows, vocab); num_logprobs[i] alternatives for row i.
    """
    results: list[TokenLogprobs | None] = [None] * len(token_ids)
    asking = [(i, t, n) for i, (t, n) in enumerate(zip(token_ids, num_logprobs, strict=True))
              if t is not None and n is not None]  # fmt: skip
    if not asking:
        return results
    rows = torch.tensor([i for i, _, _ in asking], device=logits.device)
    table = torch.log_softmax(logits.index_select(0, rows).float(), dim=-1)
    chosen = table.gather(1, torch.tensor([[t] for _, t, _ in asking], device=logits.device))
    width = min(max(n for _, _, n in asking), logits.shape[-1])
    values, indices = (t.tolist() for t in table.topk(width, dim=-1))
    for line, ((i, _, n), value) in enumerate(zip(asking, chosen.flatten().tolist(), strict=True)):
        top = tuple(zip(indices[line][:n], values[line][:n], strict=True))
        results[i] = TokenLogprobs(logprob=value, top=top)
    return results
