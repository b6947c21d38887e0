"""Turns the documents of the corpus into batches of tokens."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.conversation import Document, draw_document

IGNORED = -100
Draw = Callable[[random.Random], Document]


@dataclass(frozen=True)
class Example:
    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Batch:
    """Right-padded rows; under a causal mask the padding is never looked at."""

    ids: Tensor  # (rows, length) int64
    labels: Tensor  # (rows, length) int64, IGNORED where nothing is learned


@dataclass(frozen=True)
class BatchSize:
    """Limits in tokens, padding included; and how many documents are sorted by length at once."""

    row: int
    batch: int
    total: int
    documents: int = 4096


def draw_documents(
    rng: random.Random, excluded: frozenset[str], draw: Draw = draw_document
) -> Iterator[Document]:
    """Documents without end, none of which holds an excluded question."""
    while True:
        document = draw(rng)
        if excluded.isdisjoint(document.questions):
            yield document


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> Example:
    ids: list[int] = []
    labels: list[int] = []
    for piece in document.pieces:
        piece_ids = tokenizer.backend_tokenizer.encode(piece.text, add_special_tokens=False).ids
        ids += piece_ids
        labels += piece_ids if piece.learned else [IGNORED] * len(piece_ids)
    return Example(ids, labels)


def draw_batches(
    seed: int,
    size: BatchSize,
    tokenizer: PreTrainedTokenizerFast,
    excluded: frozenset[str],
    draw: Draw = draw_document,
) -> Iterator[Batch]:
    """Batches of rows of like length, until the budget of tokens is spent."""
    rng = random.Random(seed)
    documents = draw_documents(rng, excluded, draw)
    spent = 0
    while True:
        examples = [encode(tokenizer, next(documents)) for _ in range(size.documents)]
        examples = [e for e in examples if len(e.ids) <= size.row]
        for batch in _bucket(rng, examples, size.batch, tokenizer.pad_token_id):
            yield batch
            spent += batch.ids.numel()
            if spent >= size.total:
                return


def _bucket(
    rng: random.Random, examples: list[Example], batch_tokens: int, pad: int
) -> list[Batch]:
    examples.sort(key=lambda e: len(e.ids))
    groups: list[list[Example]] = [[]]
    for example in examples:
        if len(example.ids) * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    return [_collate(group, pad) for group in groups]


def _collate(examples: list[Example], pad: int) -> Batch:
    length = max(len(e.ids) for e in examples)
    ids = [e.ids + [pad] * (length - len(e.ids)) for e in examples]
    labels = [e.labels + [IGNORED] * (length - len(e.ids)) for e in examples]
    return Batch(torch.tensor(ids), torch.tensor(labels))
