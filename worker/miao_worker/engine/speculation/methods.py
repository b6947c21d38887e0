"""The ways to propose tokens that a deployment can choose from."""

from __future__ import annotations

from miao_worker.engine.batch import ModelRunner
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.speculation.draft_model import DraftModel
from miao_worker.engine.speculation.prompt_lookup import PromptLookup
from miao_worker.engine.speculation.proposer import Proposer


def make_proposer(
    config: EngineConfig, draft_runner: ModelRunner | None, vocab_size: int
) -> Proposer | None:
    """What the settings ask for; None where speculation is off."""
    if draft_runner is not None:
        return DraftModel(draft_runner, config, vocab_size)
    return PromptLookup() if config.speculation == "ngram" else None
