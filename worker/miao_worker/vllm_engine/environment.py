"""How vLLM is to behave inside a process of ours; read when it is imported.

VLLM_ENABLE_V1_MULTIPROCESSING: its core runs in the engine's process, which is ours to kill.
VLLM_USE_V2_MODEL_RUNNER: the first runner has the interface for drawing tokens that we use.
VLLM_CONFIGURE_LOGGING: its lines go through our log.
VLLM_NO_USAGE_STATS: nothing is told to anybody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

VARIABLES: Mapping[str, str] = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def prepare() -> None:
    """Set what is not set; to be called before vLLM is imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(logging.WARNING)
    # When a step fails it writes down the whole batch, prompts and all.
    logging.getLogger("vllm.logging_utils.dump_input").disabled = True
