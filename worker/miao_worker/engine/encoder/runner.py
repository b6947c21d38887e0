"""One forward pass of an encoder over inputs of like length."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from miao_worker.engine.encoder.activation import activate
from miao_worker.engine.encoder.loader import LoadedEncoder
from miao_worker.engine.encoder.pooling import pool
from miao_worker.engine.encoder.types import EncoderInput, EncoderTask


class EncoderRunner(Protocol):
    """What an encoder engine asks of a model.

    type_vocab_size: how many texts of one input the model tells apart; 0 where none.
    """

    task: EncoderTask
    max_length: int
    vocab_size: int
    type_vocab_size: int
    dimensions: int
    normalizes: bool

    def run(self, inputs: Sequence[EncoderInput]) -> list[Tensor]:
        """Of each input its vector, or its logits, (labels,) or (tokens, labels).

        Float32 on the CPU.
        """
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of logits."""
        ...


class PaddedRunner:
    """Runs transformers' own model on a batch that is padded to its longest input."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self.task = loaded.task
        self.max_length = loaded.max_length
        self.dimensions = loaded.dimensions
        self.normalizes = loaded.recipe.normalize
        self.loaded = loaded
        model = loaded.model
        self.vocab_size = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        known_types = getattr(model.config.get_text_config(), "type_vocab_size", 0) or 0
        self.type_vocab_size = int(known_types) if takes_types else 0

    @property
    def dtype(self) -> torch.dtype:
        return self.loaded.model.dtype

    @property
    def device(self) -> torch.device:
        return self.loaded.model.device

    @torch.inference_mode()
    def run(self, inputs: Sequence[EncoderInput]) -> list[Tensor]:
        token_ids, mask, types = self._tensors(inputs)
        arguments = {"input_ids": token_ids, "attention_mask": mask}
        if self.type_vocab_size:
            arguments["token_type_ids"] = types
        output = self.loaded.model(**arguments)
        if self.task is EncoderTask.EMBED:
            hidden = output.last_hidden_state.float()
            vectors = self.loaded.layers(pool(hidden, mask, self.loaded.recipe.poolings))
            return list(vectors.cpu())
        logits = output.logits.float().cpu()
        if self.task is EncoderTask.CLASSIFY:
            return list(logits)
        return [row[: len(each.token_ids)] for row, each in zip(logits, inputs, strict=True)]

    def scores(self, logits: Tensor) -> Tensor:
        return activate(logits, self.loaded.activation)

    def _tensors(self, inputs: Sequence[EncoderInput]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, mask and types, each (rows, longest)."""
        longest = max(len(each.token_ids) for each in inputs)
        pad = self.loaded.pad_token_id
        rows, mask, types = [], [], []
        for each in inputs:
            length = len(each.token_ids)
            rows.append((*each.token_ids, *[pad] * (longest - length)))
            mask.append([1] * length + [0] * (longest - length))
            types.append((*each.type_ids, *[0] * (longest - len(each.type_ids))))
        tokens = torch.tensor([rows, mask, types], device=self.device)
        return tokens[0], tokens[1], tokens[2]
