"""Loads Miao's own engines: what generates, what encodes, and what explains both."""

from __future__ import annotations

from miao.internal.v1.queue_pb2 import ModelCard
from miao_worker.encoder_card import build_encoder_card
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.engine import load_engine
from miao_worker.engine.encoder.tasks import encoder_task
from miao_worker.engine.engine import Engine
from miao_worker.engine.explain.engine import ExplainingEngine
from miao_worker.engine.explain.loading import explain_classification, explain_generation
from miao_worker.engine.guidance.vocabulary import VocabularyError
from miao_worker.engine.tensor_parallel.checks import check_task
from miao_worker.engine.tensor_parallel.loading import load_generating
from miao_worker.engine.tensor_parallel.ranks import Ranks
from miao_worker.explanation_execution import METHODS
from miao_worker.model_card import build_model_card, check_draft_vocabulary


def load(
    config: EngineConfig, model_name: str, ranks: Ranks | None = None
) -> tuple[ExplainingEngine, ModelCard]:
    """The engine for the model's task, and the model's card. Raises ModelLoadError.

    ranks: those that compute with this process.
    """
    task = encoder_task(config)
    if task is not None:
        check_task(config, task.value)
        encoder, runner = load_engine(config, task)
        explaining = explain_classification(encoder, runner, config)
        card = build_encoder_card(model_name, config, runner)
        return explaining, with_methods(card, explaining)
    if config.draft_model is not None:
        check_draft_vocabulary(config.model, config.draft_model)
    engine = load_generating(config, ranks)
    card = build_model_card(model_name, config.model, engine)
    card.guide_fault = _follow_grammars(engine, card)
    explaining = explain_generation(engine, config)
    return explaining, with_methods(card, explaining)


def with_methods(card: ModelCard, engine: ExplainingEngine) -> ModelCard:
    """The card, with how answers can be explained."""
    card.explain_methods.extend(
        number for number, method in METHODS.items() if method in engine.methods
    )
    return card


def _follow_grammars(engine: Engine, card: ModelCard) -> str:
    """Let the engine follow grammars; why it cannot with this model, or nothing."""
    try:
        engine.follow_grammars(card.tokenizer_json, card.eos_token_ids)
    except VocabularyError as error:
        return str(error)
    return ""
