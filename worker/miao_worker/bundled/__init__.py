"""The model that ships with Miao: a Hugging Face folder beside this file.

See ``MODEL_CARD.md`` for what it is and is not. Needs neither torch nor transformers
to be found.
"""

from pathlib import Path

BUNDLED_MODEL_NAME = "miao-tiny"


def bundled_model_path() -> Path:
    """The folder to load with ``AutoModelForCausalLM`` and ``AutoTokenizer``."""
    return Path(__file__).parent
