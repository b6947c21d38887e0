"""Asks a model the demonstration and the held-out questions, prints its answers and the score.

python -m training.evaluate                       # the bundled model, greedy
python -m training.evaluate --temperature 0.7
python -m training.evaluate --ask "为什么我的手机没有信号？"
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.checker import DEMONSTRATION, HELD_OUT, Item, complaints, read_items

BUNDLED = Path(__file__).parents[1] / "miao_worker" / "bundled"
ROWS = 32  # answered together


class Answer(NamedTuple):
    text: str
    ended: bool  # by the model, not by the limit


class Answerer:
    """A model with its tokenizer, in float32."""

    def __init__(self, folder: Path, temperature: float = 0.0, seed: int = 0) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.temperature = temperature
        torch.manual_seed(seed)

    def complete(self, prompts: Sequence[str], max_tokens: int = 200) -> list[Answer]:
        """Continue texts, those of like length together."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            completed = self._complete([prompts[i] for i in rows], max_tokens)
            answers.update(zip(rows, completed, strict=True))
        return [answers[i] for i in range(len(prompts))]

    def _complete(self, prompts: list[str], max_tokens: int) -> list[Answer]:
        inputs = self.tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=False
        )
        sampling = (
            {"do_sample": True, "temperature": self.temperature, "top_p": 0.9, "top_k": 0}
            if self.temperature > 0
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=max_tokens, **sampling)
        return [self._decode(ids) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()]

    def _decode(self, ids: list[int]) -> Answer:
        stops = self.model.generation_config.eos_token_id
        end = next((i for i, token in enumerate(ids) if token in stops), None)
        return Answer(self.tokenizer.decode(ids[:end]), end is not None)

    def answer(self, items: Sequence[Item]) -> list[Answer]:
        """Answer the last turn of every item, after having answered those before."""
        histories = [_opening(item) for item in items]
        answers = [Answer("", False)] * len(items)
        for turn in range(max(len(item.turns) for item in items)):
            asked = [i for i, item in enumerate(items) if turn < len(item.turns)]
            prompts = []
            for i in asked:
                histories[i].append({"role": "user", "content": items[i].turns[turn]})
                prompts.append(self._prompt(items[i], histories[i]))
            for i, answer in zip(asked, self.complete(prompts), strict=True):
                histories[i].append({"role": "assistant", "content": answer.text})
                answers[i] = answer
        return answers

    def _prompt(self, item: Item, history: list[dict[str, str]]) -> str:
        if item.raw:
            return history[-1]["content"]
        rendered: str = self.tokenizer.apply_chat_template(
            history, tokenize=False, add_generation_prompt=True
        )
        return rendered


def _opening(item: Item) -> list[dict[str, str]]:
    return [{"role": "system", "content": item.system}] if item.system else []


def evaluate(answerer: Answerer, items: list[Item], quiet: bool) -> float:
    """Print the answers and the score; returns the share of sensible answers."""
    good = 0
    for item, answer in zip(items, answerer.answer(items), strict=True):
        problems = complaints(item, answer.text, answer.ended)
        good += not problems
        if problems or not quiet:
            print(f"{'ok ' if not problems else 'BAD'} {' / '.join(item.turns)}\n    {answer.text}")
            for problem in problems:
                print(f"    !! {problem}")
    print(f"{good} of {len(items)} sensible ({100 * good / len(items):.1f} %)")
    return good / len(items)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--questions", type=Path, default=HELD_OUT, help="a file like heldout.jsonl"
    )
    parser.add_argument("--ask", help="ask this instead")
    parser.add_argument("--raw", action="store_true", help="ask without the chat template")
    parser.add_argument("--quiet", action="store_true", help="print the failures only")
    arguments = parser.parse_args()
    answerer = Answerer(arguments.model, arguments.temperature, arguments.seed)
    if arguments.ask:
        print(answerer.answer([Item((arguments.ask,), "any", raw=arguments.raw)])[0].text)
    else:
        print("The demonstration:")
        evaluate(answerer, read_items(DEMONSTRATION), quiet=False)
        print(f"{arguments.questions.stem}:")
        evaluate(answerer, read_items(arguments.questions), arguments.quiet)


if __name__ == "__main__":
    main()
