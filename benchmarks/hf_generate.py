"""transformers' own `generate` on static batches, as a process that answers lines.

Each line on stdin is a JSON list of prompts and the number of new tokens; each
line on stdout is the seconds that it took. Started by compare_hf.py.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, logging


def main() -> None:
    logging.set_verbosity_error()
    folder, dtype = sys.argv[1:3]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None
    print("ready", flush=True)
    for line in sys.stdin:
        prompts, new_tokens = json.loads(line)
        print(_seconds(model, torch.tensor(prompts), new_tokens), flush=True)


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
    main()
