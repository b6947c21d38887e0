"""Imports what a vLLM engine needs, and nothing else: engines are forked from here."""

import contextlib

from miao_worker.vllm_engine import environment

environment.prepare()
with contextlib.suppress(ImportError):  # an engine that is loaded then says what is missing
    import vllm.engine.arg_utils
    import vllm.v1.engine.llm_engine  # noqa: F401

    import miao_worker.vllm_engine.loading  # noqa: F401
