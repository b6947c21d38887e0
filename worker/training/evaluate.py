"""Asks a model the demonstration and the held-out questions, prints its answers and the score.

python -m training.evaluate                       # the bundled model, greedy
python -m training.evaluate --temperature 0.7
python -m training.evaluate --ask "为什么我的手机没有信号？"
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.checker import DEMONSTRATION, Item, complaints, read_items

BUNDLED = Path(__file__).parents[1] / "miao_worker" / "bundled"


class Answerer:
    """A model with its tokenizer, in float32."""

    def __init__(self, folder: Path, temperature: float = 0.0, seed: int = 0) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.temperature = temperature
        torch.manual_seed(seed)

    def complete(self, prompt: str, max_tokens: int = 200) -> tuple[str, bool]:
        """Continue a text; returns the answer and whether the model ended it."""
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        sampling = (
            {"do_sample": True, "temperature": self.temperature, "top_p": 0.9, "top_k": 0}
            if self.temperature > 0
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=max_tokens, **sampling)
        ids = output[0, inputs["input_ids"].shape[1] :]
        stops = self.model.generation_config.eos_token_id
        ended = ids[-1].item() in stops
        return self.tokenizer.decode(ids[:-1] if ended else ids), ended

    def answer(self, item: Item) -> tuple[str, bool]:
        """Answer the last turn of an item, after having answered those before."""
        if item.raw:
            return self.complete(item.turns[-1])
        messages = [{"role": "system", "content": item.system}] if item.system else []
        text, ended = "", False
        for turn in item.turns:
            messages.append({"role": "user", "content": turn})
            prompt = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            text, ended = self.complete(prompt)
            messages.append({"role": "assistant", "content": text})
        return text, ended


def evaluate(answerer: Answerer, items: list[Item], quiet: bool) -> float:
    """Print the answers and the score; returns the share of sensible answers."""
    good = 0
    for item in items:
        answer, ended = answerer.answer(item)
        problems = complaints(item, answer, ended)
        good += not problems
        if problems or not quiet:
            print(f"{'ok ' if not problems else 'BAD'} {' / '.join(item.turns)}\n    {answer}")
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
    parser.add_argument("--ask", help="ask this instead of the held-out questions")
    parser.add_argument("--raw", action="store_true", help="ask without the chat template")
    parser.add_argument("--quiet", action="store_true", help="print the failures only")
    arguments = parser.parse_args()
    answerer = Answerer(arguments.model, arguments.temperature, arguments.seed)
    if arguments.ask:
        print(answerer.answer(Item((arguments.ask,), "any", raw=arguments.raw))[0])
    else:
        print("The demonstration:")
        evaluate(answerer, read_items(DEMONSTRATION), quiet=False)
        print("Held out:")
        evaluate(answerer, read_items(), arguments.quiet)


if __name__ == "__main__":
    main()
