"""vLLM's CPU engine, in this process. bfloat16, or int8 weights and activations.

For int8 the folder is one that `w8a8.py` has made. Needs LD_PRELOAD of tcmalloc and
of the environment's libiomp5, as vLLM's documentation asks for CPUs.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.update(
    VLLM_CPU_OMP_THREADS_BIND="0-1",
    VLLM_CPU_KVCACHE_SPACE="3",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="WARNING",
    VLLM_NO_USAGE_STATS="1",
)

from serve import serve
from vllm import LLM, SamplingParams


def main(folder: str, precision: str) -> None:
    assert precision in ("bfloat16", "int8")
    llm = LLM(
        folder,
        dtype="bfloat16",
        max_model_len=2048,
        max_num_seqs=32,
        seed=0,
        disable_log_stats=True,
        enable_prefix_caching=True,
    )
    engine, count = llm.llm_engine, 0

    def run(prompts: list[list[int]], new_tokens: int) -> float:
        nonlocal count
        sampling = SamplingParams(
            temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        started = time.perf_counter()
        for prompt in prompts:
            count += 1
            engine.add_request(str(count), {"prompt_token_ids": prompt}, sampling)
        lengths = []
        while engine.has_unfinished_requests():
            lengths += [len(o.outputs[0].token_ids) for o in engine.step() if o.finished]
        seconds = time.perf_counter() - started
        assert lengths == [new_tokens] * len(prompts)
        return seconds

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
