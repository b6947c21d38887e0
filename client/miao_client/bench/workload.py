"""What is asked of the service.

Random prompts are token ids, so their length is exact, and they say nothing,
so no answer is stored anywhere. Their ids leave out the first and the last
tenth of the vocabulary: special tokens stand at its beginning (Llama 2) or at
its end (Llama 3, Qwen), and so do single bytes and unused rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from miao_client.bench import jsonl
from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Arrival
from miao_client.bench.settings import Settings
from miao_client.prompts import Prompt, TokenIds
from miao_client.results import Model


@dataclass(frozen=True, slots=True)
class Request:
    """One request to send."""

    prompt: Prompt
    max_tokens: int
    seed: int  # of its sampling


@dataclass(frozen=True, slots=True)
class FilePrompt:
    """One prompt of a file, with its own limit if the file says one."""

    prompt: Prompt
    output_tokens: int | None = None


# Makes the prompt of request `index` with so many tokens, if it is one that is made.
PromptMaker: TypeAlias = Callable[[Random, int, int], FilePrompt]


class Workload:
    """The requests that settings describe, for one model.

    Raises:
        SettingsError: The model cannot hold them, or their file cannot be read.
    """

    def __init__(self, settings: Settings, model: Model) -> None:
        self._settings = settings
        self._make = _prompt_maker(settings, model)

    def request(self, random: Random, index: int, arrival: Arrival | None = None) -> Request:
        """Make the request of this index; a trace's arrival goes before the settings."""
        arrival = arrival or Arrival(at=0.0)
        settings = self._settings
        made = FilePrompt(arrival.prompt) if arrival.prompt is not None else None
        if made is None:
            made = self._make(random, index, arrival.input_tokens or settings.input_tokens)
        return Request(
            prompt=made.prompt,
            max_tokens=arrival.output_tokens or made.output_tokens or settings.output_tokens,
            seed=random.getrandbits(63),
        )


def seeded(*parts: object) -> Random:
    """A generator that these parts alone decide, the same in every process."""
    return Random("/".join(map(str, parts)))  # noqa: S311  # makes load, not secrets


def read_prompts(path: Path) -> list[FilePrompt]:
    """Read prompts: the lines of a .txt, or the objects of a .jsonl with a `prompt` each.

    Raises:
        SettingsError: It cannot be read; the message names the line.
    """
    match path.suffix:
        case ".txt":
            found = [FilePrompt(line) for _, line in jsonl.lines(path)]
        case ".jsonl":
            found = [_file_prompt(entry) for entry in jsonl.read(path)]
        case _:
            raise SettingsError(
                "--prompts must be random, shared-prefix, or a file whose name ends in .txt or "
                f".jsonl, not {path}."
            )
    if not found:
        raise SettingsError(f"{path} has no prompts.")
    return found


def _file_prompt(entry: jsonl.Entry) -> FilePrompt:
    prompt = entry.prompt()
    if prompt is None:
        raise entry.wrong('"prompt" must be there')
    return FilePrompt(prompt, entry.count("output_tokens"))


def _prompt_maker(settings: Settings, model: Model) -> PromptMaker:
    if settings.prompts not in ("random", "shared-prefix"):
        found = read_prompts(Path(settings.prompts))
        return lambda random, index, length: found[index % len(found)]
    _check_length(settings, model)
    ids = plain_ids(model)
    # The same for all loads: what makes the cache of prefixes useful.
    prefix = seeded(settings.seed, "prefix").choices(ids, k=settings.shared_prefix_tokens or 0)
    return lambda random, index, length: FilePrompt(_token_ids(random, ids, prefix, length))


def _token_ids(random: Random, ids: Sequence[int], prefix: list[int], length: int) -> TokenIds:
    """The prefix, cut to the length, and random ids up to it."""
    return TokenIds(prefix[:length] + random.choices(ids, k=max(0, length - len(prefix))))


def plain_ids(model: Model) -> range:
    """The ids that random prompts are made of; see the module.

    Raises:
        SettingsError: The service does not say how many there are.
    """
    if model.vocab_size < 1:
        raise SettingsError(
            f"The service does not say the vocabulary's size of {model.name}, which random "
            "prompts need; --prompts FILE does without."
        )
    margin = model.vocab_size // 10
    return range(margin, model.vocab_size - margin)


def _check_length(settings: Settings, model: Model) -> None:
    asked = settings.input_tokens + settings.output_tokens
    if asked > model.max_model_length:
        raise SettingsError(
            f"--input-tokens and --output-tokens must be at most {model.max_model_length:,} "
            f"together, the context of {model.name}, not {asked:,}."
        )
