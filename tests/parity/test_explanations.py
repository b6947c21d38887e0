"""Explanations equal what plain transformers and autograd make of the same tokens, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity.conftest import Subject
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.engine import load_engine
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.engine.explain.engine import ExplainingEngine
from miao_worker.engine.explain.loading import explain_classification, explain_generation
from miao_worker.engine.explain.types import (
    ExplanationOutput,
    ExplanationRequest,
    LabelTarget,
    Method,
    OutputTarget,
)

GRADIENTS = (Method.GRADIENT_X_INPUT, Method.INTEGRATED_GRADIENTS)
INPUT = (5, 99, 3, 42, 180, 7, 7, 61)
OUTPUT = (12, 200, 31)


@dataclass(frozen=True)
class Reference:
    """What is explained, as transformers computes it from embeddings."""

    model: Any
    value: Callable[[Tensor], Tensor]  # of embeddings (rows, tokens, size): (rows, things)

    def embed(self, token_ids: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            return self.model.get_input_embeddings()(torch.tensor(token_ids))

    def gradient(self, at: Tensor, thing: int) -> Tensor:
        """Of each row's value. Shapes: (rows, tokens, size), or (tokens, size) for one row."""
        leaf = at.clone().requires_grad_()
        rows = leaf if leaf.dim() == 3 else leaf[None]
        (found,) = torch.autograd.grad(self.value(rows)[:, thing].sum(), leaf)
        return found

    def integrated(self, token_ids: tuple[int, ...], places: list[int], thing: int) -> Tensor:
        """By the trapezoidal rule on many points, so by other points than the engine's."""
        e = self.embed(token_ids)
        b = e.clone()
        vocabulary = range(self.model.get_input_embeddings().num_embeddings)
        b[places] = self.embed(tuple(vocabulary)).mean(0)
        on_the_way = torch.linspace(0, 1, 513)[:, None, None]
        gradients = self.gradient(b + on_the_way * (e - b), thing)
        return ((e - b) * torch.trapezoid(gradients, dx=1 / 512, dim=0)).sum(-1)


def causal_reference(folder: Path, output: tuple[int, ...]) -> Reference:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    model.eval().requires_grad_(False)

    def value(embedded: Tensor) -> Tensor:
        embedding = model.get_input_embeddings()
        ids = torch.zeros(embedded.shape[:2], dtype=torch.long)
        handle = embedding.register_forward_hook(lambda *_: embedded)
        try:
            logits = model(input_ids=ids, use_cache=False).logits[:, -len(output) :]
        finally:
            handle.remove()
        return logits.log_softmax(-1)[:, range(len(output)), list(output)]

    return Reference(model, value)


def explain(engine: ExplainingEngine, request: ExplanationRequest) -> ExplanationOutput:
    engine.add(request)
    for _ in range(100_000):
        for output in engine.step().outputs:
            assert isinstance(output, ExplanationOutput)
            assert output.error is None, output.error
            return output
    raise AssertionError("the explanation does not come to an end")


def ask(method: Method, steps: int = 0, **target: Any) -> ExplanationRequest:
    wanted = OutputTarget(**{"token_ids": OUTPUT, "num_candidates": 3} | target)
    return ExplanationRequest("x", INPUT, tuple(range(len(INPUT))), method, wanted, steps)


@pytest.fixture(scope="session")
def engine(subject: Subject) -> ExplainingEngine:
    return explaining(subject)


def explaining(subject: Subject, **changes: Any) -> ExplainingEngine:
    config = EngineConfig(
        str(subject.folder),
        device="cpu",
        dtype="float32",
        max_model_length=128,
        cpu_kernels=subject.cpu_kernels,
    )
    return explain_generation(subject.engine(**changes), replace(config, **changes))


def logprobs(model: Any, input_ids: tuple[int, ...], output: tuple[int, ...]) -> Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([[*input_ids, *output]])).logits[0, len(input_ids) - 1 : -1]
    return logits.log_softmax(-1)


def test_leave_one_out_is_the_difference_of_log_probabilities(
    engine: ExplainingEngine, subject: Subject
) -> None:
    model = causal_reference(subject.folder, OUTPUT).model
    found = explain(engine, ask(Method.LEAVE_ONE_OUT))
    table = logprobs(model, INPUT, OUTPUT)
    for at, attribution in enumerate(found.attributions):
        assert attribution.position == at
        whole = float(table[at, OUTPUT[at]])
        without = [
            float(logprobs(model, INPUT[:i] + INPUT[i + 1 :], OUTPUT)[at, OUTPUT[at]])
            for i in range(len(INPUT))
        ]
        assert attribution.value == pytest.approx(whole, abs=1e-4)
        assert attribution.scores == pytest.approx([whole - each for each in without], abs=2e-4)
        assert attribution.delta is None


def test_candidates_are_the_softmax_of_transformers(
    engine: ExplainingEngine, subject: Subject
) -> None:
    model = causal_reference(subject.folder, OUTPUT).model
    generated = explain(engine, ask(Method.LEAVE_ONE_OUT, token_ids=(), max_tokens=4))
    expected = model.generate(
        torch.tensor([INPUT]),
        attention_mask=torch.ones(1, len(INPUT), dtype=torch.long),
        max_new_tokens=4,
        do_sample=False,
    )[0, len(INPUT) :].tolist()
    assert list(generated.token_ids) == expected
    for found in (generated, explain(engine, ask(Method.LEAVE_ONE_OUT))):
        table = logprobs(model, INPUT, found.token_ids)
        assert found.logprobs is not None
        for row, token_id, said in zip(table, found.token_ids, found.logprobs, strict=True):
            values, ids = row.topk(3)
            assert said.logprob == pytest.approx(float(row[token_id]), abs=1e-4)
            assert [i for i, _ in said.top] == ids.tolist()
            assert [v for _, v in said.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_gradient_x_input_is_that_of_autograd(engine: ExplainingEngine, subject: Subject) -> None:
    reference = causal_reference(subject.folder, OUTPUT)
    found = explain(engine, ask(Method.GRADIENT_X_INPUT, positions=(0, 2)))
    embedded = reference.embed((*INPUT, *OUTPUT[:-1]))
    (values,) = reference.value(embedded[None])
    for attribution, thing in zip(found.attributions, (0, 2), strict=True):
        expected = (reference.gradient(embedded, thing) * embedded).sum(-1)[: len(INPUT)]
        assert attribution.position == thing
        assert attribution.value == pytest.approx(float(values[thing]), abs=1e-4)
        assert attribution.scores == pytest.approx(expected.tolist(), abs=2e-3, rel=1e-3)


def test_integrated_gradients_are_the_integral_and_complete(
    engine: ExplainingEngine, subject: Subject
) -> None:
    reference = causal_reference(subject.folder, OUTPUT)
    found = explain(engine, ask(Method.INTEGRATED_GRADIENTS, 128))
    tokens = (*INPUT, *OUTPUT[:-1])
    expected = reference.integrated(tokens, list(range(len(INPUT))), 1)[: len(INPUT)]
    assert found.attributions[1].scores == pytest.approx(expected.tolist(), abs=0.05)
    for attribution in found.attributions:
        assert attribution.baseline_value is not None
        difference = attribution.value - attribution.baseline_value
        assert attribution.delta == pytest.approx(sum(attribution.scores) - difference)
        assert abs(attribution.delta or 0) < 0.02 * max(1.0, abs(difference))


@pytest.mark.parametrize("method", Method)
def test_the_whole_output_is_the_sum_of_its_tokens(
    engine: ExplainingEngine, method: Method
) -> None:
    steps = 16 if method is Method.INTEGRATED_GRADIENTS else 0
    parts = explain(engine, ask(method, steps)).attributions
    (whole,) = explain(engine, ask(method, steps, is_whole=True)).attributions
    assert whole.position is None
    assert whole.value == pytest.approx(sum(each.value for each in parts), abs=1e-3)
    sums = [sum(scores) for scores in zip(*(each.scores for each in parts), strict=True)]
    assert whole.scores == pytest.approx(sums, abs=5e-3, rel=1e-3)


def test_a_rounded_model_explains_by_its_original_weights(llama: Subject) -> None:
    if not llama.cpu_kernels:
        pytest.skip("rounded on the compiled kernels alone")
    config = EngineConfig(
        str(llama.folder), device="cpu", quantize="int8-weight", max_model_length=128
    )
    engine = explain_generation(llama.engine(dtype="auto", quantize="int8-weight"), config)
    found = explain(engine, ask(Method.GRADIENT_X_INPUT))
    reference = causal_reference(llama.folder, OUTPUT)
    embedded = reference.embed((*INPUT, *OUTPUT[:-1]))
    expected = (reference.gradient(embedded, 1) * embedded).sum(-1)[: len(INPUT)]
    assert found.attributions[1].scores == pytest.approx(expected.tolist(), abs=2e-3, rel=1e-3)
    assert found.attributions[1].value == pytest.approx(
        float(reference.value(embedded[None])[0, 1]), abs=1e-4
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(3)
    BertForSequenceClassification(
        BertConfig(
            vocab_size=211,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            id2label={0: "bad", 1: "good", 2: "odd"},
            label2id={"bad": 0, "good": 1, "odd": 2},
        )
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", Method)
def test_a_label_is_explained_by_what_is_text(bert: Path, method: Method) -> None:
    config = EngineConfig(str(bert), device="cpu", dtype="float32")
    encoder, runner = load_engine(config, EncoderTask.CLASSIFY)
    engine = explain_classification(encoder, runner, config)
    model = BertForSequenceClassification.from_pretrained(bert).eval().requires_grad_(False)
    types, places = (0, 0, 0, 0, 1, 1, 1, 1), (1, 2, 4, 5, 6)

    def value(embedded: Tensor) -> Tensor:
        ids = torch.zeros(embedded.shape[:2], dtype=torch.long)
        kinds = torch.tensor([types]).expand(len(embedded), -1)
        handle = model.get_input_embeddings().register_forward_hook(lambda *_: embedded)
        try:
            logits = model(input_ids=ids, token_type_ids=kinds).logits
        finally:
            handle.remove()
        return logits.log_softmax(-1)

    reference = Reference(model, value)
    embedded = reference.embed(INPUT)
    (logits,) = value(embedded[None])
    best = int(logits.argmax())
    steps = 64 if method is Method.INTEGRATED_GRADIENTS else 0
    target = LabelTarget(type_ids=types)
    found = explain(engine, ExplanationRequest("x", INPUT, places, method, target, steps))
    assert found.label == best
    assert found.label_scores == pytest.approx(logits.exp().tolist(), abs=1e-5)
    (attribution,) = found.attributions
    assert attribution.value == pytest.approx(float(logits[best].detach()), abs=1e-5)
    if method is Method.LEAVE_ONE_OUT:
        expected = []
        for place in range(len(INPUT)):
            ids = torch.tensor([INPUT[:place] + INPUT[place + 1 :]])
            kept = torch.tensor([types[:place] + types[place + 1 :]])
            with torch.no_grad():
                without = model(input_ids=ids, token_type_ids=kept).logits[0].log_softmax(-1)[best]
            expected.append(float(logits[best].detach() - without))
    elif method is Method.GRADIENT_X_INPUT:
        expected = (reference.gradient(embedded, best) * embedded).sum(-1).tolist()
    else:
        expected = reference.integrated(INPUT, list(places), best).tolist()
        assert abs(attribution.delta or 1) < 0.01
    for place in range(len(INPUT)):
        if place not in places:
            expected[place] = 0.0
    assert attribution.scores == pytest.approx(expected, abs=5e-3)


def test_explanations_run_beside_each_other_and_beside_generations(llama: Subject) -> None:
    engine = explaining(llama)
    alone = {method: explain(engine, ask(method, 8)) for method in GRADIENTS}
    alone[Method.LEAVE_ONE_OUT] = explain(engine, ask(Method.LEAVE_ONE_OUT))
    for index in range(3):
        engine.add(llama.request(index))
    for method in Method:
        engine.add(replace(ask(method, 8), sequence_id=method))
    tokens: dict[str, tuple[int, ...]] = {}
    found: dict[str, ExplanationOutput] = {}
    while engine.has_unfinished:
        for output in engine.step().outputs:
            if isinstance(output, ExplanationOutput):
                found[output.sequence_id] = output
            else:
                tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
    assert tokens == {str(index): llama.expected[index] for index in range(3)}
    for method, expected in alone.items():
        for mine, theirs in zip(found[method].attributions, expected.attributions, strict=True):
            assert mine.scores == pytest.approx(theirs.scores, abs=1e-3)
