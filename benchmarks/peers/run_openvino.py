"""OpenVINO GenAI's continuous batching on a CPU. bfloat16, or int8 as it quantizes by default.

The folder is an export of optimum-intel: 16-bit weights for bfloat16, 8-bit ones for int8.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import openvino
import openvino_genai
from serve import serve


def main(folder: str, precision: str) -> None:
    assert precision in ("bfloat16", "int8")
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.enable_prefix_caching = True
    scheduler.max_num_seqs = 32
    scheduler.dynamic_split_fuse = True
    scheduler.max_num_batched_tokens = 2048
    properties = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 2}
    if precision == "bfloat16":
        properties["KV_CACHE_PRECISION"] = "bf16"
    pipeline = openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)
    count = 0

    def run(prompts: list[list[int]], new_tokens: int) -> float:
        nonlocal count
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens, True, False
        config.eos_token_id = 0
        started = time.perf_counter()
        handles = []
        for prompt in prompts:
            count += 1
            ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
            handles.append(pipeline.add_request(count, ids, config))
        tokens = 0
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for handle in handles:
                if handle.can_read():
                    tokens += sum(len(o.generated_ids) for o in handle.read().values())
        seconds = time.perf_counter() - started
        assert tokens == new_tokens * len(prompts)
        return seconds

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
