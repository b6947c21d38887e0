"""Models, as OpenAI's clients list them."""

from __future__ import annotations

from typing import Any

from miao_client.results import Model


def write(model: Model) -> dict[str, Any]:
    """One model. Workers do not say when it was made, so that is 0."""
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "miao",
        "parent": model.base,
        "max_model_len": model.max_model_length,
        "tasks": [task.value for task in model.tasks],
    }
