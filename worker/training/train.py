"""Trains the bundled model in two stages and writes it as a Hugging Face folder.

    python worker/training/train.py --stage language --output FOLDER
    python worker/training/train.py --stage tasks --start FOLDER --output BUNDLED

The first stage begins with nothing and learns to talk; the second begins with what the first
wrote and learns the tasks whose answer is data. Two processes of one thread each take turns at
the batches and average their gradients: on a model this small that makes more of two cores than
two threads at every product do. The corpus is drawn from a seed, so the same machine gives the
same weights. Nothing is written before the training is done.
"""

import argparse
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor, distributed
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.batches import IGNORED, Batch, BatchSize, Draw, draw_batches, draw_documents
from training.checker import held_out_questions
from training.conversation import draw_document
from training.tasks import draw_task
from training.tokenizer import save_tokenizer, train_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes the result."""

    seed: int = 7
    processes: int = 2
    tokens: int = 8_300_000  # padding included; some 50 core-minutes
    batch_tokens: int = 768  # of each process
    peak_rate: float = 2.2e-3
    final_rate: float = 3e-5
    warmup_steps: int = 120
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    max_length: int = 512
    documents: int = 4096  # sorted by length at once
    vocabulary: int = 4096
    hidden: int = 192
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    intermediate: int = 512
    context: int = 1024
    embedding_deviation: float = 0.06
    draw: Draw = draw_document


STAGES = {
    "language": Recipe(),
    "tasks": replace(Recipe(), seed=17, tokens=4_500_000, peak_rate=1.2e-3, draw=draw_task),
}


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


def train(
    recipe: Recipe, model: Qwen3ForCausalLM, batches: Iterator[Batch], rank: int
) -> dict[str, float]:
    """Train to the end of the batches, of which this process computes every other one."""
    optimizer = make_optimizer(model, recipe)
    gradients = _one_buffer(model)
    started, spent, mean, step = time.monotonic(), 0, 0.0, 0
    model.train()
    for step, turn in enumerate(zip(*[batches] * recipe.processes, strict=False)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(recipe, step, spent / recipe.tokens)
        loss = loss_of(model, turn[rank])
        loss.backward()
        distributed.all_reduce(gradients)
        gradients.div_(recipe.processes)
        gradients.mul_((recipe.gradient_norm / gradients.norm()).clamp(max=1.0))
        optimizer.step()
        gradients.zero_()
        spent += sum(batch.ids.numel() for batch in turn)
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0 and rank == 0:
            _report(recipe, step, mean, spent, time.monotonic() - started)
    return {"steps": step + 1, "tokens": spent, "final_loss": round(mean, 4)}


def _one_buffer(model: Qwen3ForCausalLM) -> Tensor:
    """Let all gradients lie in one tensor, which is averaged and clipped at once."""
    parameters = list(model.parameters())
    buffer = torch.zeros(sum(p.numel() for p in parameters))
    for parameter, piece in zip(
        parameters, buffer.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = piece.view_as(parameter)
    return buffer


def _report(recipe: Recipe, step: int, loss: float, spent: int, elapsed: float) -> None:
    left = elapsed * (recipe.tokens / spent - 1)
    print(
        f"step {step:5d}  loss {loss:.3f}  {spent / 1e6:.2f}M tokens  "
        f"{elapsed / 60:.1f} min  {time.process_time() / 60:.1f} core-min here  "
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


def make_tokenizer(recipe: Recipe, excluded: frozenset[str]) -> PreTrainedTokenizerFast:
    documents = draw_documents(random.Random(recipe.seed), excluded)
    texts = ("".join(p.text for p in next(documents).pieces) for _ in range(30_000))
    return train_tokenizer(texts, recipe.vocabulary, recipe.context)


def work(
    rank: int,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    excluded: frozenset[str],
    meeting: str,
    output: Path,
    start: Path | None = None,
) -> None:
    """What one of the processes does; the first one writes the model."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=recipe.processes
    )
    if start is None:
        model = build_model(recipe, tokenizer)
    else:
        model = Qwen3ForCausalLM.from_pretrained(start, dtype=torch.float32)
    size = BatchSize(recipe.max_length, recipe.batch_tokens, recipe.tokens, recipe.documents)
    batches = draw_batches(recipe.seed + 1, size, tokenizer, excluded, recipe.draw)
    figures = train(recipe, model, batches, rank)
    distributed.barrier()
    distributed.destroy_process_group()
    if rank == 0:
        save(model, tokenizer, output)
        figures["parameters"] = sum(p.numel() for p in model.parameters())
        print(json.dumps(figures), flush=True)


def _core_seconds() -> float:
    """The time on cores of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stage", choices=STAGES, default="language")
    parser.add_argument("--start", type=Path, help="folder of the model to go on from")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the model to")
    arguments = parser.parse_args()
    recipe, start = STAGES[arguments.stage], arguments.start
    if (start is None) != (arguments.stage == "language"):
        parser.error("the stage of tasks, and no other, needs --start")
    started, excluded = time.monotonic(), held_out_questions()
    tokenizer = (
        make_tokenizer(recipe, excluded)
        if start is None
        else PreTrainedTokenizerFast.from_pretrained(start)
    )
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        torch.multiprocessing.spawn(
            work,
            (recipe, tokenizer, excluded, meeting, arguments.output, start),
            nprocs=recipe.processes,
        )
    seconds = {"wall_seconds": time.monotonic() - started, "core_seconds": _core_seconds()}
    print(json.dumps({name: round(value) for name, value in seconds.items()}), flush=True)


if __name__ == "__main__":
    main()
