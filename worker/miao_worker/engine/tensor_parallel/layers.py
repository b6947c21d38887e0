"""Layers of which a rank holds a share, in the place of the model's own."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from miao_worker.engine.tensor_parallel.group import Group


class SummedLinear(nn.Module):
    """A product over this rank's inputs; the sum over the ranks is the layer's output."""

    def __init__(self, linear: nn.Linear, inputs: range, group: Group, splits: bool) -> None:
        """splits: it is given all inputs, and takes its own."""
        super().__init__()
        self.weight = frozen(linear.weight[:, inputs.start : inputs.stop])
        self.bias = linear.bias if group.leads else None  # added once
        self._inputs = inputs
        self._group = group
        self._splits = splits

    def forward(self, x: Tensor) -> Tensor:
        if self._splits:
            x = x[..., self._inputs.start : self._inputs.stop]
        return self._group.sum_(F.linear(x, self.weight, self.bias))


class GatheredLinear(nn.Module):
    """A product for this rank's outputs; all ranks have all outputs in the end."""

    def __init__(self, linear: nn.Linear, outputs: range, group: Group) -> None:
        super().__init__()
        self.weight = frozen(linear.weight[outputs.start : outputs.stop])
        self.bias = None if linear.bias is None else frozen(linear.bias[_slice(outputs)])
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        return self._group.gather_all(F.linear(x, self.weight, self.bias))


class SharedEmbedding(nn.Module):
    """The vectors of this rank's part of the vocabulary; those of others come with the sum."""

    def __init__(self, embedding: nn.Embedding, group: Group) -> None:
        super().__init__()
        self.num_embeddings = embedding.num_embeddings
        self._tokens = group.piece_of(embedding.num_embeddings)
        embedding.weight = frozen(embedding.weight[_slice(self._tokens)])
        embedding.padding_idx = None  # a token of the whole vocabulary, of use to training alone
        self.inner = embedding  # which may scale what it finds
        self.weight = embedding.weight
        self._group = group

    def forward(self, token_ids: Tensor) -> Tensor:
        places = token_ids - self._tokens.start
        is_elsewhere = (places < 0) | (places >= len(self._tokens))
        vectors: Tensor = self.inner(places.masked_fill(is_elsewhere, 0))
        return self._group.sum_(vectors.masked_fill(is_elsewhere[..., None], 0))


class SharedHead(nn.Module):
    """The logits of this rank's part of the vocabulary, brought together at the first rank."""

    def __init__(self, linear: nn.Linear, group: Group) -> None:
        super().__init__()
        tokens = group.piece_of(linear.out_features)
        self.weight = frozen(linear.weight[_slice(tokens)])
        self.bias = None if linear.bias is None else frozen(linear.bias[_slice(tokens)])
        self._vocab_size = linear.out_features
        self._group = group

    def forward(self, hidden: Tensor) -> Tensor:
        return self._group.gather(F.linear(hidden, self.weight, self.bias), self._vocab_size)


def frozen(share: Tensor) -> nn.Parameter:
    """A share of a weight, in one piece."""
    return nn.Parameter(share.detach().contiguous(), requires_grad=False)


def _slice(places: range) -> slice:
    return slice(places.start, places.stop)
