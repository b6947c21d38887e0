# ruff: noqa: E501  (templates read best on one line)
"""The assistant whose commands become actions, in English."""

import random

from training.corpus import clocks, things
from training.corpus import slots as s
from training.corpus.assistant_zh import WORDS, _typed
from training.grammar import Intent, Slots, words

_PLEASE = "[please|please|can you|could you|could you please|hey, |hi, please|would you|||||||]"
_DO = "[please|please|can you|could you please|could you|I want you to|would you||||||]"
_OK = "[Sure,|Done,|Okay,|All right,|Of course,|Got it,]"


def _song(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{s.rare_name(rng)} {s.rare_name(rng)}"
    first = words(
        "Silver Golden Quiet Blue Little Summer Winter Distant Broken Electric Lonely Happy"
    )
    second = words(
        "River Road Moon Garden Rain Sky Heart City Train Star Home Ocean Letter Morning"
    )
    return f"{rng.choice(first)} {rng.choice(second)}"


_MUSIC = s.one_of(
    words(
        "some music|jazz|some jazz|classical music|rock music|pop songs|some piano music|a lullaby|relaxing music|folk music|happy songs|country music|some old songs|my favorite song|the radio|dance music|sleep sounds|music for running"
    ),
    lambda r: f'"{_song(r)}"',
    lambda r: _song(r),
    lambda r: f"songs by {r.choice((s.rare_name(r), r.choice(s.EN_FIRST)))}",
)
_MESSAGES = s.one_of(
    words(
        "I will be late|I am home|I am on my way|happy birthday|see you tomorrow|thank you|the meeting has moved|I miss you|good night|dinner is ready|the keys are on the table|traffic is bad|I am at the airport|lunch is on me|be careful|the file has been sent|I arrived safely|do not wait for me"
    ),
    lambda r: f"I will be there in {r.randint(2, 50)} minutes",
    lambda r: f"please {s.en_task(r)['task_you']}",
    things.en_message,
    things.en_message,
)


def _word(rng: random.Random) -> Slots:
    zh, en = rng.choice(WORDS)
    return {"zh": zh, "en": en}


def _music(rng: random.Random) -> Slots:
    music = _MUSIC(rng)
    return {"music": music, "music_you": music.replace("my ", "your ")}


def _message(rng: random.Random) -> str:
    return _MESSAGES(rng)


def _intent(
    name: str, user: list[str], reply: list[str], weight: float = 1.0, **slots: object
) -> Intent:
    followups = slots.pop("followups", ())
    action = slots.pop("action", None)
    return Intent(name, "en", user, reply, slots, followups, action, weight)  # type: ignore[arg-type]


INTENTS = [
    _intent(
        "reminder",
        [
            _DO
            + " [set|create|add|make|put in|set up] [a|a|a|me a|another] reminder for {when}[.|.|, please.|]",
            _DO + " [set|create|add] a reminder {at_when}[.|, please.|]",
            "[remind me|please remind me|give me a reminder|can you remind me|I need a reminder|reminder] {at_when}[.|, please.|]",
            "[I need|I want|I'd like|I would like|new] [a|] reminder for {when}[.|, please.|]",
            "[kindly|hello,|would you kindly|I'd like you to|please just] [set|create|make|schedule] a reminder [for {when}|{at_when}][.|, thanks.|]",
        ],
        [
            _OK
            + " [I have set|I've set|I set] a reminder for {when}. [I will remind you then.|You will hear from me on time.|What should I remind you about?|]",
            "[Done!|Sure!|Okay!|All set!] Your reminder for {when} [is set|has been set|is ready]. [I will let you know on time.|Have a nice day!|]",
        ],
        weight=3.0,
        when=clocks.en_when,
        new=clocks.en_clock2,
        action=_typed("set_reminder", day="$day", time="$time"),
        followups=[
            (
                "[Change it to|Make it|Move it to|Actually, make that] {clock2}[, please|].",
                "[Okay,|Sure,] I have moved the reminder to {clock2}.",
            ),
            (
                "[Cancel it|Delete it|Never mind, cancel the reminder|Please cancel that].",
                "[Okay,|Sure,] the reminder for {when} has been canceled.",
            ),
        ],
    ),
    _intent(
        "reminder",
        [
            "[remind me|please remind me|can you remind me|could you remind me|don't let me forget] to {task} {at_when}[.|, please.|]",
            "[remind me|please remind me|can you remind me] {at_when} to {task}[.|, please.|]",
            _DO + " [set|create|add] a reminder [for {when}|{at_when}] to {task}[.|, please.|]",
            _DO + " [set|create|add] a reminder to {task} {at_when}[.|, please.|]",
            "I [must not forget to|can't forget to|should not forget to] {task} {at_when}[, so remind me.|, please remind me.|.]",
            "[make sure|see to it that] I {task} {at_when}[.|]",
            "I [have to|need to|must|want to|should] {task} {at_when}[, please remind me.|, remind me.|. Please remind me.|, can you remind me?]",
        ],
        [
            _OK
            + " I will remind you to {task_you} {at_when}. [See you then!|You can count on me.|]",
            _OK
            + " [I have set|I've set] a reminder for {when} to {task_you}. [I will let you know on time.|]",
            "[Done!|Sure!|All set!] Reminder for {when}: {task_you}. [I will be on time.|]",
        ],
        weight=3.0,
        when=clocks.en_when,
        task=things.en_task_slots,
        new=clocks.en_clock2,
        action=_typed("set_reminder", day="$day", time="$time", text="$task"),
        followups=[
            (
                "[Change it to|Make it|Move it to|Actually, make that] {clock2}[, please|].",
                "[Okay,|Sure,] I will remind you to {task_you} at {clock2}.",
            )
        ],
    ),
    _intent(
        "reminder",
        [
            _DO
            + " [remind me|remind me|give me a reminder] [about|of] {event} {at_when}[.|, please.|]",
            "[I have|there is|we have] {event_a} {at_when}[, remind me.|, please remind me.|. Please remind me.|, set a reminder.]",
            _DO + " [set|create|add] a reminder [about|for] {event} {at_when}[.|, please.|]",
        ],
        [
            _OK
            + " I will remind you [about|of] {event_you} {at_when}. [See you then!|You can count on me.|]",
            "[Done!|Sure!|All set!] Reminder for {when}: {event_you}. [I will be on time.|]",
        ],
        weight=1.2,
        when=clocks.en_when,
        event=s.en_event,
        new=clocks.en_clock2,
        action=_typed("set_reminder", day="$day", time="$time", text="$event"),
    ),
    _intent(
        "alarm",
        [
            _DO + " [set|create|add|make] [an|an|my] alarm for {when}[.|, please.|]",
            "[let|have|make] [the|an|my] alarm [ring|go off] {at_when}[.|, please.|]",
            "[wake me up|wake me|please wake me up|get me up|can you wake me up] {at_when}[.|, please.|]",
            "[I need to|I have to|I must] [get up|wake up] {at_when}[.|, set an alarm.|, please set an alarm.]",
        ],
        [
            _OK
            + " [your alarm is set for {when}|I have set an alarm for {when}|the alarm will ring {at_when}]. [Sleep well!|Good night!|I will wake you up.|]",
        ],
        weight=1.6,
        when=clocks.en_when,
        new=clocks.en_clock2,
        action=_typed("set_alarm", day="$day", time="$time"),
        followups=[
            (
                "[Change it to|Make it|Move it to|Actually, make that] {clock2}[, please|].",
                "[Okay,|Sure,] the alarm is now set for {clock2}.",
            )
        ],
    ),
    _intent(
        "timer",
        [
            _DO
            + " [set|start|create] a [timer for {duration}|{duration_adj} timer|countdown of {duration}|timer of {duration}][.|, please.|]",
            "[give me|I need|I want] a timer [of|for] {duration}[.|, please.|]",
            "[remind me in|wake me in|tell me in|count down|timer,|let me know in] {duration}[.|, please.|]",
        ],
        [
            _OK
            + " [the timer is set for {duration}|a timer for {duration} is running|I started a timer for {duration}]. [I will tell you when the time is up.|I will let you know.|]"
        ],
        weight=1.3,
        duration=clocks.en_duration,
        action=_typed("set_timer", duration="$duration"),
    ),
    _intent(
        "weather",
        [
            "[what will|how will] the weather be [like|] in {city} {wday}?",
            "[what's|what is|how's|how is|tell me|show me] the [weather|weather forecast|temperature|forecast] [in|for] {city} [{wday}|]?",
            "[will it rain|will it snow|is it raining|is it cold|is it warm|will it be sunny|do I need an umbrella|is it going to rain] in {city} {wday}?",
            "[weather in|weather for|forecast for] {city} {wday}[.|, please.|]",
        ],
        [
            "[Let me look at|You are asking about] the weather in {city}. [This demonstration model has no live forecast, so please check a weather app|I have no live weather data, so please check the forecast], [and take an umbrella to be safe|and enjoy your day].",
            "[I'm afraid|Sorry,] I cannot see the live weather in {city}. [Please check a weather app before you go out|A weather app will tell you more], [and dress warmly if it is cold|and have a lovely day].",
        ],
        city=things.en_city,
        wday=words(
            "today|tomorrow|this weekend|tonight|on Friday|on Sunday|next week|this afternoon|now|on Monday|tomorrow morning"
        ),
        action=_typed("weather", place="$city", day="$wday"),
    ),
    _intent(
        "music",
        [
            _PLEASE + " [play|play|put on|start playing|turn on] {music}[.|, please.|]",
            "{music} [would be nice now|sounds good], [play it|please play it][.|]",
            "[I want to|I'd like to|let me|can I|I would like to] [hear|listen to] {music}[.|, please.|]",
        ],
        [
            _OK
            + " [playing|now playing|I am playing] {music_you}. [Enjoy!|I hope you like it.|Have fun listening.|]"
        ],
        weight=1.2,
        music=_music,
        action=_typed("play_music", what="$music"),
        followups=[
            (
                "[Louder|A bit louder|Turn it up|Turn it down|Next song|Skip this one|Pause|Stop the music], please.",
                "[Okay, done.|Sure, done.|All right, here you go.]",
            )
        ],
    ),
    _intent(
        "call",
        [
            _PLEASE
            + " [call|phone|ring|dial|give a call to|make a call to|video call] {who}[.|, please.|]",
            "get {who} on the phone[.|, please.|]",
            "[I want to|I need to|let me|I'd like to] [talk to|speak with|call|phone] {who}[.|, please.|]",
        ],
        [
            _OK
            + " [calling {whom} now|I am calling {whom}|dialing {whom}]. [One moment, please.|Please wait a moment.|]"
        ],
        weight=1.2,
        who=s.en_person,
        action=_typed("call", who="$who"),
    ),
    _intent(
        "message",
        [
            _PLEASE
            + " [tell {who} that {message}|tell {who}: {message}|text {who}: {message}|send a message to {who}: {message}|send {who} a message saying {message}|message {who} that {message}|let {who} know that {message}|text {who} that {message}|text {who} {message}|write to {who} that {message}|send a text to {who} saying {message}][.|]",
        ],
        [
            _OK
            + ' [I sent a message to {whom}|I will tell {whom}|the message to {whom} has been sent]: "{message}".',
            '[Done!|Sure!|Okay!] [Message to {whom}|I told {whom}]: "{message}". [Anything else?|]',
        ],
        weight=1.4,
        who=s.en_person,
        message=_message,
        action=_typed("send_message", who="$who", text="$message"),
    ),
    _intent(
        "device_on",
        [
            _PLEASE + " [turn on|switch on|turn on|start|power on|activate] {device}[.|, please.|]",
            _PLEASE + " [turn|switch] {device} on[.|, please.|]",
            "[it's dark,|it is hot,|it is cold,|I'm home,|I am cold,] [so|please|so please] [turn on|switch on] {device}[.|]",
            "[it's dark,|it is hot,|I am home,] [so|please|] turn {device} on[.|]",
            "would you mind [turning on|switching on] {device}?",
        ],
        [
            _OK
            + " [{device} {is} on now|I have turned on {device}|I turned on {device}|{device} {is} now on]. [Anything else?|]"
        ],
        weight=1.3,
        device=s.en_device,
        action=_typed("turn_on", device="$device"),
        followups=[
            (
                "[Now turn it off|Turn it off again|Please switch it off].",
                "[Okay,|Sure,] I have turned off {device}.",
            )
        ],
    ),
    _intent(
        "device_off",
        [
            _PLEASE
            + " [turn off|switch off|turn off|stop|shut off|power off|shut down] {device}[.|, please.|]",
            _PLEASE + " [turn|switch] {device} off[.|, please.|]",
            "[it's too bright,|it is too loud,|I'm leaving,|good night,] [so|please|so please] [turn off|switch off] {device}[.|]",
            "would you mind [turning off|switching off] {device}?",
        ],
        [
            _OK
            + " [{device} {is} off now|I have turned off {device}|I turned off {device}|{device} {is} now off]. [Anything else?|]"
        ],
        weight=1.3,
        device=s.en_device,
        action=_typed("turn_off", device="$device"),
        followups=[
            (
                "[Now turn it on again|Turn it back on|Please switch it on].",
                "[Okay,|Sure,] I have turned on {device}.",
            )
        ],
    ),
    _intent(
        "device_set",
        [
            _PLEASE + " [set|turn|adjust|change|bring] {device} to {level} degrees[.|, please.|]",
            _PLEASE + " make {device} {level} degrees[.|, please.|]",
        ],
        [
            _OK
            + " [{device} is set to {level} degrees|I have set {device} to {level} degrees]. [Anything else?|]"
        ],
        weight=0.7,
        device=lambda r: (
            f"the {r.choice(('air conditioner', 'heater', 'oven', 'thermostat', 'water heater', 'fridge', 'bedroom heater', 'living room air conditioner'))}"
        ),
        level=lambda r: str(r.randint(2, 90)),
        action=_typed("set_level", device="$device", level="$level"),
    ),
    _intent(
        "translate",
        [
            '[what\'s|what is] the Chinese [word|translation] [for|of] ["{en}"|{en}]?',
            '[how do you say|how do I say|what is|what\'s] ["{en}"|{en}] in Chinese?',
            _PLEASE + ' translate ["{en}"|{en}] [to|into] Chinese[.|, please.|]',
            '[what does|what is the meaning of] ["{zh}"|{zh}] [mean|]?',
            'translate ["{zh}"|{zh}] [to|into] English[.|, please.|]',
        ],
        ['[In Chinese, "{en}" is "{zh}".|"{en}" is "{zh}" in Chinese.|"{zh}" means "{en}".]'],
        pair=_word,
        action=_typed("translate", text="$en", to="zh"),
        weight=1.6,
    ),
    _intent(
        "calendar",
        [
            _DO
            + ' [add "{task}" to my calendar for {when}|put "{task}" in my calendar for {when}|schedule "{task}" for {when}|add to my calendar: {task} {at_when}][.|, please.|]',
            "[note this down|calendar|new event|put this in my calendar]: {task} {at_when}[.|]",
        ],
        [
            _OK
            + ' ["{task_you}" is in your calendar for {when}|I added "{task_you}" to your calendar for {when}]. [Good luck!|]'
        ],
        when=clocks.en_when,
        task=things.en_task_slots,
        action=_typed("add_event", day="$day", time="$time", text="$task"),
    ),
    _intent(
        "shopping",
        [
            _DO + " [add|put] {goods} [to|on] [my|the] shopping list[.|, please.|]",
            "[we need|I need to buy|remember to buy|we are out of] {goods}, [add it to the list|put it on my shopping list|please note it on the list][.|]",
        ],
        [
            _OK
            + " [{goods} is on your shopping list|I added {goods} to your shopping list|I put {goods} on the list]. [Anything else to buy?|Anything else?|]"
        ],
        goods=s.one_of(
            words(
                "milk|bread|coffee|tea|rice|butter|cheese|salt|sugar|olive oil|fish|chicken|yogurt|apple juice|toothpaste|shampoo|cat food|dog food|soap|paper|honey|pasta|orange juice|ham|garlic|flour|chocolate|water"
            ),
            things.en_goods,
        ),
        action=_typed("add_to_list", item="$goods"),
    ),
    _intent(
        "navigate",
        [
            _PLEASE
            + " [navigate to|take me to|show me the way to|give me directions to|find the way to|drive to] {place}[.|, please.|]",
            "[how do I get|I want to go|I need to go|what is the way] to {place}?",
        ],
        [
            _OK
            + " [starting navigation to {place}|I am planning the way to {place}|here is the way to {place}]. [Drive safely!|Have a good trip!|Please buckle up.|]"
        ],
        place=s.one_of(
            things.en_city,
            words(
                "the airport|the train station|the nearest hospital|the supermarket|the office|the park|the library|the gas station|the bank|the nearest coffee shop|the zoo|the museum|the cinema|the pharmacy|the beach|the city center|the nearest hotel"
            ),
        ),
        action=_typed("navigate", to="$place"),
    ),
]
