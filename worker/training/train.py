"""Trains the bundled model from nothing and writes it as a Hugging Face folder.

    python worker/training/train.py --output worker/miao_worker/bundled

The corpus is drawn from a seed, so the same machine with the same number of threads gives
the same weights. Nothing is written before the training is done.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.checker import held_out_questions
from training.conversation import Document, draw_document
from training.tokenizer import save_tokenizer, train_tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes the result."""

    seed: int = 7
    tokens: int = 6_400_000  # padding included
    batch_tokens: int = 1024
    peak_rate: float = 2e-3
    final_rate: float = 3e-5
    warmup_steps: int = 150
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    max_length: int = 512
    vocabulary: int = 4096
    hidden: int = 192
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    intermediate: int = 512
    context: int = 1024
    embedding_deviation: float = 0.06


@dataclass(frozen=True)
class Example:
    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Batch:
    """Right-padded rows; under a causal mask the padding is never looked at."""

    ids: Tensor  # (rows, length) int64
    labels: Tensor  # (rows, length) int64, IGNORED where nothing is learned


def draw_documents(rng: random.Random, excluded: frozenset[str]) -> Iterator[Document]:
    """Documents without end, none of which holds an excluded question."""
    while True:
        document = draw_document(rng)
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
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, excluded: frozenset[str]
) -> Iterator[Batch]:
    """Batches of rows of like length, until the budget of tokens is spent."""
    rng = random.Random(recipe.seed + 1)
    documents = draw_documents(rng, excluded)
    spent = 0
    while True:
        examples = [encode(tokenizer, next(documents)) for _ in range(4096)]
        examples = [e for e in examples if len(e.ids) <= recipe.max_length]
        for batch in _bucket(rng, examples, recipe.batch_tokens, tokenizer.pad_token_id):
            yield batch
            spent += batch.ids.numel()
            if spent >= recipe.tokens:
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


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_size,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    _initialize(model, recipe)
    return model


@torch.no_grad()
def _initialize(model: Qwen3ForCausalLM, recipe: Recipe) -> None:
    """Let a token's own embedding outweigh what the untrained layers add to it.

    With the default of 0.02 everywhere the layers of a model this narrow drown it, and
    learning starts about four times slower.
    """
    model.model.embed_tokens.weight.normal_(0, recipe.embedding_deviation)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.mul_(1 / math.sqrt(2 * recipe.layers))


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy of the learned tokens; the head runs on their positions only."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state[:, :-1]
    targets = batch.labels[:, 1:]
    learned = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), targets[learned])


def rate_at(recipe: Recipe, step: int, done: float) -> float:
    """Linear warm-up, then a cosine down to the final rate; ``done`` runs from 0 to 1."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return warm * (recipe.final_rate + (recipe.peak_rate - recipe.final_rate) * cosine)


def make_optimizer(model: Qwen3ForCausalLM, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def train(recipe: Recipe, model: Qwen3ForCausalLM, batches: Iterator[Batch]) -> dict[str, float]:
    """Train to the end of the batches; returns figures."""
    optimizer = make_optimizer(model, recipe)
    started, spent, mean = time.monotonic(), 0, 0.0
    model.train()
    step = 0
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(recipe, step, spent / recipe.tokens)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        spent += batch.ids.numel()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            _report(recipe, step, mean, spent, time.monotonic() - started)
    return {"steps": step + 1, "tokens": spent, "final_loss": round(mean, 4)}


def _report(recipe: Recipe, step: int, loss: float, spent: int, elapsed: float) -> None:
    left = elapsed * (recipe.tokens / spent - 1)
    print(
        f"step {step:5d}  loss {loss:.3f}  {spent / 1e6:.2f}M tokens  "
        f"{elapsed / 60:.1f} min  {time.process_time() / 60:.1f} core-min  "
        f"{left / 60:.1f} min left",
        flush=True,
    )


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights in bfloat16, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
        max_new_tokens=160,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)


def make(recipe: Recipe) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, dict[str, float]]:
    """Train the tokenizer, then the model, on documents that the seed determines."""
    torch.manual_seed(recipe.seed)
    excluded = held_out_questions()
    documents = draw_documents(random.Random(recipe.seed), excluded)
    texts = ("".join(p.text for p in next(documents).pieces) for _ in range(30_000))
    tokenizer = train_tokenizer(texts, recipe.vocabulary, recipe.context)
    model = build_model(recipe, tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    figures = train(recipe, model, draw_batches(recipe, tokenizer, excluded))
    return model, tokenizer, figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    model, tokenizer, figures = make(Recipe())
    save(model, tokenizer, arguments.output)
    figures["wall_seconds"] = round(time.monotonic() - started)
    figures["core_seconds"] = round(time.process_time())
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
