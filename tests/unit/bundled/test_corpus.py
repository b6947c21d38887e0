"""What the bundled model is trained on: drawn from a seed, complete, and without the held out."""

import itertools
import json
import random
import re

import pytest

from training.batches import IGNORED, BatchSize, Draw, draw_batches, draw_documents
from training.checker import COMMANDS, CUSTOMERS, held_out_questions, read_lines
from training.conversation import END, Document, draw_document
from training.corpus import INTENTS
from training.corpus.rewordings import reworded
from training.corpus.tasks import TASK_INTENTS
from training.grammar import Intent, choose, draw_slots, fill
from training.tasks import draw_task
from training.tokenizer import train_tokenizer

LEFT_OVER = re.compile(r"\{\w+\}|[\[\]|]")


def _documents(count: int, seed: int = 3, draw: Draw = draw_document) -> list[Document]:
    documents = draw_documents(random.Random(seed), held_out_questions(), draw)
    return list(itertools.islice(documents, count))


def test_a_seed_gives_the_same_documents() -> None:
    assert _documents(50) == _documents(50)
    assert _documents(50) != _documents(50, seed=4)


def test_no_document_asks_an_excluded_question() -> None:
    excluded = frozenset(question for d in _documents(300) for question in d.questions)
    drawn = itertools.islice(draw_documents(random.Random(3), excluded), 300)
    assert all(excluded.isdisjoint(document.questions) for document in drawn)


@pytest.mark.parametrize(
    "intent", [*INTENTS, *TASK_INTENTS], ids=lambda i: f"{i.language}-{i.name}"
)
def test_every_wording_and_reply_can_be_filled(intent: Intent) -> None:
    rng = random.Random(5)
    for template in (*intent.user, *intent.reply):
        text = fill(choose(rng, template), draw_slots(rng, intent), intent.language)
        assert text
        assert not LEFT_OVER.search(text), text


def test_tasks_are_answered_by_data_that_is_whole() -> None:
    kinds = set()
    for document in _documents(600, draw=draw_task):
        answer = document.pieces[-1].text
        if answer.startswith('{"'):
            data = json.loads(answer.removesuffix(END))
            kinds.add(data.get("action", "topic"))
            assert not LEFT_OVER.search("".join(map(str, data.values())))
    assert kinds >= {"set_reminder", "cancel_reminder", "set_timer", "tell_time", "none", "topic"}


def test_what_the_applications_are_measured_by_is_held_out() -> None:
    held_out = held_out_questions()
    for path in (*COMMANDS, *CUSTOMERS):
        asked = [fields["say"] for fields in read_lines(path)]
        assert len(asked) == len(set(asked)) >= 20
        assert held_out.issuperset(asked)


@pytest.mark.parametrize("name", ["call", "message"])
def test_an_answer_repeats_the_name_in_the_question(name: str) -> None:
    rng = random.Random(6)
    for intent in (i for i in INTENTS if i.name == name):
        for template in intent.user:
            slots = draw_slots(rng, intent)
            question = fill(choose(rng, template), slots, intent.language)
            reply = fill(choose(rng, rng.choice(intent.reply)), slots, intent.language)
            assert slots["who"].lower() in question.lower()
            assert slots.get("whom", slots["who"]).lower() in reply.lower()


def test_a_wording_goes_to_the_first_intent_that_has_its_slots() -> None:
    short = Intent("wish", "en", ["now"], ["ok"], {"a": ["1"]})
    long = Intent("wish", "en", ["now"], ["ok"], {"a": ["1"], "b": ["2"]})
    merged = reworded([short, long], {"wish": ["{a}", "{a} {b}"]})
    assert [intent.user for intent in merged] == [["now", "{a}"], ["now", "{a} {b}"]]


def test_batches_learn_answers_only_and_keep_to_their_size() -> None:
    texts = ("".join(p.text for p in d.pieces) for d in _documents(400))
    tokenizer = train_tokenizer(texts, 700, 256)
    size = BatchSize(row=128, batch=512, total=4096, documents=64)
    batches = list(draw_batches(3, size, tokenizer, frozenset()))
    assert sum(batch.ids.numel() for batch in batches) >= size.total
    for batch in batches:
        assert batch.ids.numel() <= size.batch
        assert batch.ids.shape[1] <= size.row
        learned = batch.labels != IGNORED
        assert learned.any()
        assert not learned.all()
        assert (batch.labels[learned] == batch.ids[learned]).all()
