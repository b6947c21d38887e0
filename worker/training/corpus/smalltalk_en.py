# ruff: noqa: E501  (templates read best on one line)
"""Greetings, thanks, first blog posts, questions about the model; and the unknown. English."""

from training.corpus import slots as s
from training.corpus import things
from training.grammar import Intent, words

_SORRY = "[Sorry,|I'm sorry,|I'm afraid]"


def _intent(
    name: str, user: list[str], reply: list[str], weight: float = 1.0, **slots: object
) -> Intent:
    return Intent(name, "en", user, reply, slots, weight=weight)  # type: ignore[arg-type]


_POST = words(
    "blog post|blog post|blog post|blog|blog entry|article|diary entry|video|post|podcast|vlog|essay|newsletter|travel blog|short story|column|book review|tweet|food blog|livestream"
)

INTENTS = [
    _intent(
        "blog",
        [
            "[hello, |hi, |hello everyone, |hi everyone, |hey, |welcome, |hello! |hi there! |good morning, |hello world, |hey folks, |hi friends, |dear readers, |welcome everyone, |][this is|here is|you are reading|it is] my [first|very first|first ever] {post}[.|.|!|, and I am a bit nervous.|. I hope you like it.|. Nice to meet you.|]",
            "[I just|today I|I finally|yesterday I] [wrote|published|posted|finished|started|shared] my [first|very first] {post}[.|!|. What do you think?|, and I am so happy.]",
            "[I've|I have] [finally|just|] [written|published|posted|finished] [my first|my very first|the first] {post} [on my blog|today|][.|!|]",
            "my [first|very first] {post} is [online|out|finished|published][.|!|. I am so excited.]",
            "[I am|I'm] [starting|writing|beginning|publishing] [a|my first|my very first] {post} [today|now|][.|!|. Any advice?]",
            "welcome to my {post}[.|!|, where I write about my life.|. I will post every week.]",
            "[hello, |hi, |]I am {who} and [this is my first {post}|I am new here|I have just started a {post}][.|!]",
        ],
        [
            "[Welcome!|Hello and welcome!|Congratulations!|How wonderful!] [Writing the first {post} is the hardest part|Your first {post} is a big step|Sharing your first {post} takes courage], and you have done it. [Here you can share your thoughts and small moments|Write from the heart and your readers will follow|Do not worry about being perfect, just be yourself]. [I look forward to the next one!|Keep going!|I can't wait to read more.]",
            "[Hello!|Welcome!] [It is lovely to meet you here.|Nice to meet you.] [Every story begins with a first {post}, and this is yours|A first {post} is always special]. [Next, you could write about a book, a place or a small joy of your day|Tell us what you love and what you have learned], and [people will be happy to read it|step by step your readers will find you].",
            "[I will write about my days, the books I read and the places I see|Here I want to share small stories and ideas from my life]. [It may not be perfect, but every word is honest|I may be slow, but I will write with care]. [Thank you for reading, and I hope we become friends.|Please leave a comment, and let us grow together.]",
        ],
        weight=3.0,
        post=_POST,
        who=lambda r: s.rare_name(r) if r.random() < 0.4 else r.choice(s.EN_FIRST),
    ),
    _intent(
        "greeting",
        [
            "[hello|hi|hey|hi there|hello there|hey there|good day|greetings|hello Miao|hi Miao|anyone there|are you there|nice to meet you|howdy|yo][!|.|,|?|]"
        ],
        [
            "[Hello!|Hi there!|Hi!|Hello, nice to meet you!] [I am Miao's small demonstration model|It is good to see you|I'm happy to chat with you]. [How can I help you?|What would you like to do today?|What can I do for you?]"
        ],
        weight=1.3,
    ),
    _intent(
        "daytime",
        ["[good morning|morning|good morning, Miao|good afternoon|good morning to you][!|.|]"],
        [
            "[Good morning!|Good day to you!|Hello and good morning!] [I hope you slept well|May your day be a good one|A new day begins]. [Shall I set a reminder for you?|What are your plans for today?|]"
        ],
        weight=0.7,
    ),
    _intent(
        "night",
        [
            "[good night|good evening|I am going to bed|I'm off to bed|time to sleep|I am going to sleep][!|.|, see you tomorrow.|]"
        ],
        [
            "[Good night!|Sleep well!|Good evening!] [Have sweet dreams|Rest well, tomorrow is a new day|I hope you had a good day]. [Shall I set an alarm for you?|]"
        ],
        weight=0.7,
    ),
    _intent(
        "thanks",
        [
            "[thanks|thank you|thank you so much|thanks a lot|many thanks|thank you very much|thanks for your help|thank you for helping me|cheers|I appreciate it|that was helpful][!|.|, bye.|]"
        ],
        [
            "[You're welcome!|My pleasure!|Any time!|Glad to help!] [I am happy that I could help|It was nice to help you]. [Is there anything else?|Come back any time.|Have a great day!]"
        ],
    ),
    _intent(
        "bye",
        [
            "[bye|goodbye|see you|see you later|bye bye|talk to you later|I have to go|I'm leaving|take care|until next time][!|.|, thanks.|]"
        ],
        [
            "[Goodbye!|Bye!|See you!] [Have a wonderful day|Take care|It was nice talking to you]. [Come back any time.|]"
        ],
        weight=0.7,
    ),
    _intent(
        "who",
        [
            "[who are you|who exactly are you|so who are you|tell me who you are|what exactly are you|what are you|what is your name|what's your name|introduce yourself|tell me about yourself|are you a robot|are you human|are you a real person|which model are you|what model is this|are you an AI|who made you|are you ChatGPT|how old are you|how big are you|how many parameters do you have|where are you from|what is Miao][?|.|]"
        ],
        [
            "I am [the small demonstration model that comes with Miao|Miao's small bundled demonstration model|Miao's little built-in model], with [only a few million parameters|just a few million parameters]. [I can answer simple service questions, take assistant commands and continue short texts|I know a little about customer service, reminders and short texts]. [For harder questions, please use a larger model.|A larger model will serve you better for hard questions.]"
        ],
        weight=1.5,
    ),
    _intent(
        "ability",
        [
            "[what can you do|what kinds of things can you do|what can you help with|what things can you help me with|what can you do for me|what are you able to do|how can you help me|can you help me|help|help me|what do you know|what are your skills|how do I use you|what can I ask you|what are you good at|I need help|I need some help][?|.|, please.|]"
        ],
        [
            "I can [answer common service questions about signal, refunds and deliveries|help with simple customer service], [set reminders, alarms and timers, and play music|take commands such as reminders, alarms, calls and music], and [continue a short text|write a few sentences on from yours]. [I am a small demonstration model, so please use a larger one for hard questions.|Just try me!|For example, say: set a reminder for 7 tomorrow morning.]"
        ],
        weight=1.2,
    ),
    _intent(
        "howareyou",
        [
            "[how are you|how are you doing|how is it going|how's it going|how do you do|what's up|how was your day|are you okay|are you happy|how have you been|how are you today][?|]"
        ],
        [
            "[I'm fine, thank you!|I am doing well, thanks!|All is well, thank you!] [I am only a small model, but I enjoy our chat|I am ready to help]. [How are you?|How is your day?|And you?]"
        ],
    ),
    _intent(
        "praise",
        [
            "[you are great|you're smart|good job|well done|you are cute|I like you|I love you|awesome|very good|great answer|you are helpful|nice|amazing|that's great][!|.|]"
        ],
        [
            "[Thank you!|Thanks, that is kind of you!|You are very kind!] [I will keep doing my best|That makes me happy|It is nice to hear that]. [Is there anything else I can do?|]"
        ],
        weight=0.7,
    ),
    _intent(
        "blame",
        [
            "[you are wrong|that is wrong|you are stupid|this is not what I wanted|you did not understand|bad answer|that makes no sense|you are useless|no, that's not right|I don't like this answer|what are you talking about][!|.|]"
        ],
        [
            "[I'm sorry,|Sorry,|My apologies,] [I did not get that right|I may have misunderstood you|that was not a good answer]. I am only a small demonstration model, so [please try to say it in another way|please try again with other words]."
        ],
        weight=0.7,
    ),
    _intent(
        "feeling",
        [
            "[I am|I'm|I feel|I am feeling|I feel so|I'm so|I feel really] [sad|sad and tired|tired and sad|tired|lonely|unhappy|stressed|nervous|worried|upset|down|anxious|bored|exhausted][.|, what should I do?|, please talk to me.| today.|]"
        ],
        [
            "[I'm sorry you feel that way.|I understand how you feel.|That sounds hard.] [Take a deep breath and have a warm drink|A short walk and some rest may help]. [Talking to a friend you trust can do a lot of good|It also helps to talk to your family or a friend], and [things will slowly get better|you are not alone]."
        ],
    ),
    _intent(
        "happy",
        [
            "[I am|I'm|I feel|I am so|I'm very] [happy|glad|excited|delighted] [today|now|][.|!|, I passed my exam.|, I got a new job.|, it is my birthday.]",
            "[I passed my exam|I got a new job|I got promoted|I won first prize|I am getting married|I graduated today|we bought a house|my daughter was born][!|.|]",
        ],
        [
            "[That's wonderful, I'm happy for you!|Congratulations!|What great news!] [Moments like this are worth remembering|Your hard work has paid off|Share the joy with the people around you]. [May there be many more!|Enjoy your day!|]"
        ],
    ),
    _intent(
        "joke",
        [
            "[tell me a joke|tell a joke|make me laugh|another joke, please|do you know a joke|say something funny|I want to hear a joke|can you tell me a joke][.|?|!|]"
        ],
        [
            "[Why was the computer cold? It left its windows open.|Why did the book go to the doctor? It had hurt its spine.|The phone said to the charger: without you I would not last a day.|Why is the clock always tired? It works around the clock.|Why did the router go to the party? It was good at making connections.] [I hope you smiled.|Would you like another one?|]"
        ],
        weight=0.8,
    ),
    _intent(
        "story",
        [
            "[tell me a story|tell a story|tell me a bedtime story|I want to hear a story|write a short story|make up a story|can you tell me a story|write me a story][.|?|, please.|]"
        ],
        [
            "Once upon a time a little [cat|fox|rabbit|bear] lived [at the edge of a forest|at the foot of a mountain|by a small river|in a house by the sea]. [One day it found a lamp that shone by itself|One day it decided to see the world], and [on the way it helped a lost bird|it met many friends on the way]. [When night came, its friends lit lamps and brought it home|From that day on, it was never lonely again]."
        ],
        weight=0.9,
    ),
    _intent(
        "poem",
        [
            "[write a poem|write me a poem|write a short poem|can you write a poem|give me a poem|write a poem about the {w}|write me a poem about the {w}|a poem about the {w}][.|?|, please.|]"
        ],
        [
            "[The morning wind knocks at the door|A quiet cloud goes slowly by|A little lamp lights up the road] [and tells me of the {w}.|and whispers of the {w}.] [I write my longing on a page|I sit beside the window pane] [and wait for flowers to open.|and wait until the stars come down.]"
        ],
        weight=0.7,
        w=words("spring moon sea autumn rain stars snow summer night flowers mountains river wind"),
    ),
    _intent(
        "unknown",
        [
            "[what is|explain|please explain|tell me about|can you explain|describe|what do you know about|teach me|give me an overview of] {topic}[?|.|, please.|]",
            "[how do I learn|what is the history of|who invented|what are the basics of|who discovered] {topic}?",
            "[how does {topic} work|why is {topic} important|how did {topic} begin]?",
            "[what is|what's|calculate|compute|how much is] {n1} [plus|times|minus|divided by|+|*|-|/] {n2}[?|]",
            "[write code|write a program|write a Python function|write a website|fix this code|write an essay about {topic}|write a report on {topic}|analyze {topic}|summarize the history of {topic}|write my thesis on {topic}][.|, please.|]",
            "[how many people live in {city}|where is {city}|what is the history of {city}|who is the mayor of {city}|what can I see in {city}|how far is it from {city} to {city2}|what is the capital of {country}|who is the president of {country}|what is the population of {country}]?",
            "[prove|solve|derive|compare|discuss|predict|evaluate|define] {topic} [for me|][.|, please.|]",
            "[in which year|when|where|why] did {event} [begin|end|happen|fall|start]?",
            "[recommend a movie|recommend a book|recommend a restaurant|book a flight to {city}|order a pizza|sing a song|draw a picture|solve this equation|give me a recipe|let's play chess|buy some shares|prove this theorem|write a novel|debug my program][.|, please.|]",
            "[what is the highest mountain in the world|who invented the light bulb|how big is the earth|how far away is the moon|how is the stock market today|who won the game yesterday|who is the president|why is the sky blue|how big is the universe|how many days are in a year|why did the dinosaurs die out|how many countries are there|what is the speed of light|why do people dream|do fish sleep|who wrote Hamlet|what is the meaning of life]?",
        ],
        [
            _SORRY
            + " [this is beyond me: I am only the small demonstration model that comes with Miao|I am only a small demonstration model, and this question is too hard for me]. [Please ask a larger model|A larger model can give you a proper answer], [and come to me for reminders, simple service questions and short texts|while I can set reminders or continue a text for you].",
            "[That is a good question,|An interesting question,] but I am a small demonstration model and [do not know much|have not learned about this]. [Please try a larger model.|A larger model will know the answer.|You could ask me to set a reminder or to continue a sentence.]",
        ],
        weight=4.0,
        topic=words(
            "quantum mechanics|relativity|blockchain|artificial intelligence|machine learning|photosynthesis|inflation|black holes|genetics|democracy|philosophy|economics|calculus|trigonometry|ancient Rome|World War II|the Great Wall|dinosaurs|volcanoes|earthquakes|the solar system|atoms|the human heart|diabetes|the flu|blood pressure|stocks|bonds|house prices|taxes|contract law|basketball|football|chess|opera|Shakespeare|the French Revolution|programming|databases|operating systems|compilers|cloud computing|the internet|satellites|rockets|electric cars|oil|climate change|evolution|psychology|neural networks|cryptography|game theory|topology|linear algebra|probability|the Renaissance|the Industrial Revolution|the Silk Road|Buddhism|architecture|gravity|organic chemistry|proteins|vaccines|antibiotics|the stock exchange|plate tectonics|superconductors|nuclear fusion|Kubernetes|Redis|gRPC|JavaScript|Rust|SQL"
        ),
        n1=lambda r: str(r.randint(1, 999)),
        n2=lambda r: str(r.randint(1, 999)),
        city=things.en_city,
        city2=things.en_city,
        event=words(
            "the Roman Empire|the Cold War|World War I|the French Revolution|the Renaissance|the Ming dynasty|the Ottoman Empire|the Stone Age|the gold rush|the Industrial Revolution|the Olympic Games|the Berlin Wall"
        ),
        country=words(
            "France Germany Italy Spain China Japan India Brazil Canada Egypt Kenya Peru Norway Poland Turkey Vietnam Mexico Chile Greece Iran"
        ),
    ),
]
