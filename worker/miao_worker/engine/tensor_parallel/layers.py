"""Layers of which a rank holds a share, in the place of the model's own.

The products in them are plain linear layers, for which a scheme may put others.
"""

from __future__ import annotations

from torch import Tensor, nn

from miao_worker.engine.cpu.linears import LinearFactory
from miao_worker.engine.tensor_parallel.group import Group


class SummedLinear(nn.Module):
    """A product over the rank's inputs; the sum over the ranks is the layer's output."""

    def __init__(self, linear: nn.Linear, inputs: range, group: Group, splits: bool) -> None:
        """splits: it is given all inputs, and takes its own."""
        super().__init__()
        linear.weight = frozen(linear.weight[:, inputs.start : inputs.stop])
        linear.in_features = len(inputs)
        if not group.leads:
            linear.register_parameter("bias", None)  # it is added once
        self.linear = linear
        self._inputs = inputs
        self._group = group
        self._splits = splits

    def forward(self, x: Tensor) -> Tensor:
        if self._splits:
            x = x[..., self._inputs.start : self._inputs.stop].contiguous()
        return self._group.sum_(self.linear(x))


class GatheredLinear(nn.Module):
    """A product for the rank's outputs; all ranks have all outputs in the end."""

    def __init__(self, linear: nn.Linear, outputs: range, group: Group) -> None:
        super().__init__()
        self.linear = keep_outputs(linear, outputs)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        return self._group.gather_all(self.linear(x))


class SharedEmbedding(nn.Module):
    """The vectors of the rank's part of the vocabulary; those of others come with the sum."""

    def __init__(self, embedding: nn.Embedding, group: Group) -> None:
        super().__init__()
        self.num_embeddings = embedding.num_embeddings
        self._tokens = group.piece_of(embedding.num_embeddings)
        embedding.weight = frozen(embedding.weight[self._tokens.start : self._tokens.stop])
        embedding.padding_idx = None  # a token of the whole vocabulary, of use to training alone
        self.inner = embedding  # which may scale what it finds
        self._group = group

    def forward(self, token_ids: Tensor) -> Tensor:
        places = token_ids - self._tokens.start
        is_elsewhere = (places < 0) | (places >= len(self._tokens))
        vectors: Tensor = self.inner(places.masked_fill(is_elsewhere, 0))
        return self._group.sum_(vectors.masked_fill(is_elsewhere[..., None], 0))


class SharedHead(nn.Module):
    """The logits of the rank's part of the vocabulary, brought together at the first rank."""

    def __init__(self, linear: nn.Linear, group: Group) -> None:
        super().__init__()
        self._vocab_size = linear.out_features
        self.linear: nn.Module = keep_outputs(linear, group.piece_of(linear.out_features))
        self._group = group

    def use(self, factory: LinearFactory) -> None:
        """Let a product of the factory's take the place of the plain one."""
        linear = self.linear
        assert isinstance(linear, nn.Linear)
        bias: Tensor | None = linear.bias
        self.linear = factory(linear.weight.detach(), None if bias is None else bias.detach())

    def forward(self, hidden: Tensor) -> Tensor:
        return self._group.gather(self.linear(hidden), self._vocab_size)


def keep_outputs(linear: nn.Linear, outputs: range | Tensor) -> nn.Linear:
    """Let a linear layer compute some of its outputs alone, in place."""

    def kept(weight: Tensor) -> nn.Parameter:
        if isinstance(outputs, range):  # no copy of what lies in a mapped file
            return frozen(weight[outputs.start : outputs.stop])
        return frozen(weight.detach().index_select(0, outputs))

    linear.weight = kept(linear.weight)
    if linear.bias is not None:
        linear.bias = kept(linear.bias)
    linear.out_features = len(outputs)
    return linear


def frozen(share: Tensor) -> nn.Parameter:
    """A share of a weight, in one piece."""
    return nn.Parameter(share.detach().contiguous(), requires_grad=False)
