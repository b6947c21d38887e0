"""vLLM as the engine: its batches, cache and kernels behind the worker's boundary."""
