"""transformers' own `generate`, on static batches."""

from __future__ import annotations

import time

import torch
from serve import serve
from transformers import AutoModelForCausalLM, logging


def main(folder: str, precision: str) -> None:
    assert precision == "bfloat16"
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    serve(lambda prompts, new_tokens: _seconds(model, torch.tensor(prompts), new_tokens))


@torch.inference_mode()
def _seconds(model: torch.nn.Module, ids: torch.Tensor, new_tokens: int) -> float:
    started = time.perf_counter()
    output = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    assert output.shape[1] == ids.shape[1] + new_tokens
    return time.perf_counter() - started


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
