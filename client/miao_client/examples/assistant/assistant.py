"""Understands commands: asks the model, checks what it says, and answers or asks back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from miao_client.examples.assistant import actions as a
from miao_client.examples.assistant import chinese, english
from miao_client.examples.assistant.kinds import COPIED, KINDS, fields_format, kind_format, kind_of
from miao_client.examples.assistant.moments import (
    Day,
    Mentions,
    UnreadableError,
    moment,
)
from miao_client.examples.assistant.questions import question
from miao_client.examples.assistant.spans import any_stretch, likely_stretch, spans
from miao_client.examples.language import Language, language_of
from miao_client.formats import ResponseFormat
from miao_client.prompts import Message
from miao_client.results import GenerationResult
from miao_client.sync.client import Client

INSTRUCTIONS: dict[Language, str] = {
    "zh": "把用户的指令转换成JSON动作。只输出JSON。",
    "en": "Turn the command into a JSON action. Reply with JSON only.",
}
_MAX_COMMAND_CHARACTERS = 300
_MAX_TOKENS = 200
_SURE = 0.8  # of the fields together


@dataclass(frozen=True, slots=True)
class Unclear:
    """A command that is not carried out: why, and what to ask the user."""

    reason: str  # a word for programs; see `questions`
    question: str


@dataclass(frozen=True, slots=True)
class Understanding:
    """What was made of a command.

    probability: of the kind, as the model sees it.
    fields_probability: of the fields, given the kind.
    """

    command: str
    result: a.Action | Unclear
    kind: str = ""
    probability: float = 1.0
    fields_probability: float = 1.0

    @property
    def action(self) -> a.Action | None:
        """The action, if there is one that is sure enough to be carried out."""
        return None if isinstance(self.result, Unclear) else self.result


class _NotUnderstoodError(Exception):
    """Ends an attempt; carries what to ask."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Assistant:
    """Turns commands into actions.

    Args:
        client: Calls the service.
        least_probability: A kind that the model believes in less is asked about.
        least_fields_probability: Fields that it believes in less are asked for again.
        model: The model's name; None: the client's.

    Example:
        >>> Assistant(client).understand("帮我设置明天的早晨7点提醒", datetime.now()).action
    """

    def __init__(
        self,
        client: Client,
        *,
        least_probability: float = 0.6,
        least_fields_probability: float = 0.2,
        model: str | None = None,
    ) -> None:
        self._client = client
        self._least_probability = least_probability
        self._least_fields_probability = least_fields_probability
        self._model = model

    def understand(self, command: str, now: datetime) -> Understanding:
        """The action that a command asks for at a given time, or a question back.

        Raises:
            MiaoError: The service refused, failed or is not there.
        """
        command = " ".join(command.split())
        language = language_of(command)
        if not command or len(command) > _MAX_COMMAND_CHARACTERS:
            reason = "too_long" if command else "empty"
            return Understanding(command, Unclear(reason, question(reason, language)))
        mentions = (chinese if language == "zh" else english).read(command, now)
        answer = self._ask(command, language, kind_format())
        kind, probability = kind_of(answer.text), _probability(answer)
        fields_probability = 1.0
        try:
            if kind not in KINDS or probability < self._least_probability:
                raise _NotUnderstoodError("unsure")
            values, fields_probability = self._fields(kind, command, language, mentions)
            result: a.Action | Unclear = _Maker(command, mentions, now).make(kind, values)
        except _NotUnderstoodError as failure:
            result = Unclear(failure.reason, question(failure.reason, language, failure.detail))
        return Understanding(command, result, kind, probability, fields_probability)

    def _fields(
        self, kind: str, command: str, language: Language, mentions: Mentions
    ) -> tuple[dict[str, Any], float]:
        """What the model fills in. Where it is not sure, a stricter second try must agree."""
        _check_required(kind, mentions)
        response_format = fields_format(kind, any_stretch(command), mentions)
        if response_format is None:
            return {}, 1.0
        answer = self._ask(command, language, response_format)
        values, probability = _values(answer), _probability(answer)
        likely = spans(command)
        are_likely = all(values[name] in likely for name in COPIED & values.keys())
        if probability >= _SURE or (probability >= self._least_fields_probability and are_likely):
            return values, probability
        answer = self._ask(
            command, language, fields_format(kind, likely_stretch(command), mentions)
        )
        again = _values(answer)
        if not _agree(values, again):
            raise _NotUnderstoodError("unsure")
        return again, probability

    def _ask(
        self, command: str, language: Language, response_format: ResponseFormat | None
    ) -> GenerationResult:
        messages = [Message("system", INSTRUCTIONS[language]), Message("user", command)]
        stream = self._client.generate(
            messages,
            model=self._model,
            response_format=response_format,
            temperature=0,
            max_tokens=_MAX_TOKENS,
            logprobs=0,
        )
        return stream.result()


def _values(answer: GenerationResult) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(answer.text)
    except ValueError:  # cut short
        raise _NotUnderstoodError("unsure") from None
    return values


def _agree(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two answers differ at most in how far their copies reach."""
    return first.keys() == second.keys() and all(
        value in second[name] if name in COPIED else value == second[name]
        for name, value in first.items()
    )


def _probability(answer: GenerationResult) -> float:
    return math.exp(sum(token.logprob for token in answer.logprobs))


def _check_required(kind: str, mentions: Mentions) -> None:
    """What a kind cannot do without has to occur in the command."""
    fields = KINDS[kind].fields
    if mentions.unreadable and ("day" in fields or "time" in fields):
        raise _NotUnderstoodError("which_day_or_time", mentions.unreadable[0])
    found = {"time": mentions.clocks, "duration": mentions.lengths, "level": mentions.numbers}
    for field in KINDS[kind].required:
        if field in found and not found[field]:
            raise _NotUnderstoodError(f"no_{field}")


class _Maker:
    """Makes an action of what the model said, or says what is missing or in doubt."""

    def __init__(self, command: str, mentions: Mentions, now: datetime) -> None:
        self._command = command
        self._mentions = mentions
        self._now = now

    def make(self, kind: str, values: dict[str, Any]) -> a.Action:
        for field in COPIED & set(KINDS[kind].required):
            if not str(values.get(field, "")).strip(" ，。,.!?！？"):
                raise _NotUnderstoodError(f"no_{field}")
        text = {name: str(value).strip() for name, value in values.items()}
        match kind:
            case "set_reminder":
                at, day = self._moment(values)
                return a.SetReminder(at, text.get("text", ""), _repeat(day))
            case "set_alarm":
                at, day = self._moment(values)
                return a.SetAlarm(at, _repeat(day))
            case "add_event":
                return a.AddEvent(self._moment(values)[0], text["text"])
            case "set_timer":
                said = values["duration"]
                length = next(each for each in self._mentions.lengths if said in each.names)
                if not length.duration:
                    raise _NotUnderstoodError("no_duration")
                return a.SetTimer(length.duration, text.get("text", ""))
            case "cancel_reminder" | "cancel_alarm":
                return self._cancel(kind, values)
            case "weather":
                day = self._day(values)
                return a.TellWeather(text["place"], day.date if day else None)
            case "set_level":
                return a.SetLevel(text["device"], int(values["level"]))
            case "translate":
                return a.Translate(text["text"], text["to"])
            case _:
                made: a.Action = _PLAIN[kind](**{name: text[name] for name in KINDS[kind].fields})
                return made

    def _cancel(self, kind: str, values: dict[str, Any]) -> a.Action:
        made = a.CancelReminder if kind == "cancel_reminder" else a.CancelAlarm
        if "time" in values:
            return made(at=self._moment(values)[0])
        if self._mentions.clocks:
            raise _NotUnderstoodError("unsure")  # a time was said, and passed over
        day = self._day(values)
        return made(day=day.date if day else None)

    def _moment(self, values: dict[str, Any]) -> tuple[datetime, Day | None]:
        """When an action takes place, and the day that was said."""
        if "time" not in values:
            raise _NotUnderstoodError("no_time")
        chosen = time.fromisoformat(values["time"])
        clock = next(each for each in self._mentions.clocks if chosen in each.times)
        day = self._day(values)
        possible = [at for each in clock.times if (at := self._at(day, each)) is not None]
        if not possible:
            raise _NotUnderstoodError("passed", clock.said)
        if len(clock.times) > 1 and (len(possible) > 1 or day is None):
            raise _NotUnderstoodError("which_half", clock.said)
        return possible[0], day

    def _at(self, day: Day | None, clock: time) -> datetime | None:
        try:
            return moment(day, clock, self._now)
        except UnreadableError as failure:
            raise _NotUnderstoodError("which_day_or_time", failure.said) from None

    def _day(self, values: dict[str, Any]) -> Day | None:
        """The day that the model took. Passing over the only one that was said is no choice."""
        if "day" in values:
            return next(day for day in self._mentions.days if values["day"] in day.names)
        if self._mentions.days:
            raise _NotUnderstoodError("which_day_or_time", self._mentions.days[0].names[-1])
        return None


def _repeat(day: Day | None) -> a.Repeat:
    return day.repeat if day else a.Repeat.ONCE


_PLAIN: dict[str, Any] = {
    made.kind: made
    for made in (
        *(a.TellTime, a.TurnOn, a.TurnOff, a.Call, a.SendMessage),
        *(a.PlayMusic, a.AddToList, a.Navigate, a.NoAction),
    )
}
