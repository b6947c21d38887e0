"""An encoder's card: all that a front needs to tokenize for it and to read its numbers."""

from __future__ import annotations

from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerBase

from miao.internal.v1.queue_pb2 import EncoderCard, ModelCard
from miao.v1 import understanding_pb2 as understanding
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.loader import LoadedEncoder
from miao_worker.engine.encoder.runner import PaddedRunner
from miao_worker.engine.encoder.sentence_files import transformer_folder
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.model_card import load_tokenizer, special_tokens
from miao_worker.model_identity import vocabulary_digest, weights_digest


def build_encoder_card(name: str, config: EngineConfig, runner: PaddedRunner) -> ModelCard:
    """Describe a loaded encoder. Raises ModelLoadError if its tokenizer cannot be used."""
    loaded = runner.loaded
    folder = transformer_folder(config.model)
    tokenizer = load_tokenizer(folder)
    model, recipe = loaded.model, loaded.recipe
    tokenizer_json = _tokenizer_json(tokenizer, recipe.lower_case)
    encoder = EncoderCard(
        embedding_dimensions=loaded.dimensions,
        labels=loaded.labels,
        prompts=recipe.prompts,
        default_prompt_name=recipe.default_prompt_name,
        takes_type_ids=bool(runner.type_vocab_size)
        and "token_type_ids" in tokenizer.model_input_names,
    )
    return ModelCard(
        name=name,
        architecture=type(model).__name__,
        num_parameters=sum(each.numel() for each in model.parameters()),
        dtype=str(runner.dtype).removeprefix("torch."),
        max_model_length=min(loaded.max_length, int(tokenizer.model_max_length)),
        vocab_size=runner.vocab_size,
        tokenizer_json=tokenizer_json,
        special_tokens=special_tokens(tokenizer),
        tasks=_tasks(config, loaded),
        encoder=encoder,
        vocabulary_digest=vocabulary_digest(tokenizer_json, runner.vocab_size),
        weights_digest=weights_digest(folder),
    )


def _tokenizer_json(tokenizer: PreTrainedTokenizerBase, lower_case: bool) -> str:
    text = str(tokenizer.backend_tokenizer.to_str())
    if not lower_case:
        return text
    lowered = Tokenizer.from_str(text)
    steps = [normalizers.Lowercase()]
    if lowered.normalizer is not None:
        steps.append(lowered.normalizer)
    lowered.normalizer = normalizers.Sequence(steps)
    return str(lowered.to_str())


def _tasks(config: EngineConfig, loaded: LoadedEncoder) -> list[understanding.Task]:
    """A model with one label ranks documents, and gives any text its one score."""
    match loaded.task:
        case EncoderTask.EMBED:
            return [understanding.TASK_EMBED]
        case EncoderTask.CLASSIFY_TOKENS:
            return [understanding.TASK_CLASSIFY_TOKENS]
    if config.task == "rerank":
        return [understanding.TASK_RERANK]
    if config.task == "auto" and len(loaded.labels) == 1:
        return [understanding.TASK_RERANK, understanding.TASK_CLASSIFY]
    return [understanding.TASK_CLASSIFY]
