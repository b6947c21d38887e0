# ruff: noqa: E501  (templates read best on one line)
"""Sentences that want to be continued, in English."""

from training.corpus.continuation_zh import Subject, intents
from training.corpus.rewordings import continuation_en as more

_ADJ = "[beautiful|lovely|wonderful|quiet|peaceful|warm|perfect|sunny|calm|gentle|special|nice|gorgeous|magical|fresh|bright|unforgettable|ordinary|fine]"
_BEGIN = [
    "[it is|it's|it was|this is|today is|what] a " + _ADJ + " {w}[.|!]",
    "[what|such] a " + _ADJ + " {w}!",
    "[I love|I like|I really like|we all love|everyone loves|I have always loved|I enjoy|nothing is better than] [a "
    + _ADJ
    + " {w}|the {w}].",
    "[on|it was on|I remember] [a|that|one] " + _ADJ + " {w},",
    "the {w} [is finally here|has come|has arrived|was "
    + _ADJ
    + "|is my favorite time|feels "
    + _ADJ
    + "|makes me happy|began].",
    "[continue this text|continue|please continue|continue the story|keep writing|finish this text|go on]: [it is a "
    + _ADJ
    + " {w}.|I love the {w}.|on a "
    + _ADJ
    + " {w},|the {w} has come.]",
    "[write|please write|can you write|write me] [a few sentences|a short text|some lines|something|a paragraph] about [a|the] {w}.",
]

SUBJECTS = [
    Subject(
        "spring",
        "spring day|spring day|spring morning|spring|spring afternoon|day in April|spring evening|day of spring|April morning",
        [
            "spring [is here|has come|has finally arrived|is in the air|is my favorite season].",
            "[the flowers|the tulips|the cherry trees|the roses|the trees] are [blooming|in bloom|turning green].",
            "the [birds|swallows|bees] [are singing|are back|have returned].",
            "the snow has melted.",
        ],
        "The sun shines warmly on the fields, and [the first flowers are opening|the grass is green again].|A soft wind [carries the smell of fresh grass|moves the young leaves] and [the birds sing in every tree|everything seems to wake up].|The cherry trees along the [road|river|path] are in bloom, [like pink clouds|full of bees and butterflies].",
        "Children [fly their kites in the park|run across the meadow], and [their laughter fills the air|nobody wants to go home].|People [leave their coats at home|sit on the benches in the sun] and [talk about their plans for the summer|smile at each other].|The river [is free of ice|runs clear and bright], and [the sky is mirrored in the water|ducks swim along the bank].",
        "I take a deep breath and [feel that a new year has truly begun|my heart is full of hope].|On a day like this, [everything seems possible|it is best to take a long walk with a friend].",
    ),
    Subject(
        "autumn",
        "autumn day|fall day|autumn evening|autumn|autumn morning|October day|autumn afternoon|fall morning",
        [
            "[autumn|fall] [is here|has come|is my favorite season].",
            "the leaves [are falling|are turning red|have turned yellow|cover the ground].",
            "the [apples|grapes|pumpkins] are ripe.",
            "the days are getting shorter.",
        ],
        "The leaves [turn gold and red|glow in the low sun] and [fall slowly to the ground|cover the quiet path].|The sky is high and clear, and [a few white clouds drift by|wild geese fly to the south].",
        "In the orchard, [the apples are ripe|baskets fill with apples and pears], and [the whole village helps|the air smells sweet].|A small shop [sells hot chestnuts|smells of warm bread], and [people stop to warm their hands|everyone slows down for a moment].|The wind is a little cold, so [I pull my scarf tighter|people wear their sweaters again].",
        "Autumn is [quiet but rich|like a kind old friend], and it [teaches us to slow down|reminds us to be thankful].|I pick up a leaf and [keep it in my book|think of the year that has passed].",
    ),
    Subject(
        "summer",
        "summer day|summer night|summer evening|summer|summer afternoon|day in July|summer holiday|hot day",
        [
            "summer [is here|has come|is too short].",
            "the sun [is hot today|is burning].",
            "it is [so hot|very hot] today.",
            "school is out.",
        ],
        "The sun is high, and [the air shimmers over the road|the lake is full of swimmers].|In the evening [a cool wind comes from the river|people sit outside until late], and [children play until it is dark|someone plays the guitar].",
        "We [cut a cold watermelon|eat ice cream on the steps], and [for a moment there is nothing to worry about|everyone wants a second piece].|At night [the sky is full of stars|the crickets sing in the grass], and [grandmother tells an old story|we lie in the grass and count the lights].",
        "Such summers are [simple and happy|always too short], and [I will always remember them|we think of them all year].",
    ),
    Subject(
        "winter",
        "winter day|winter night|winter morning|winter|snowy day|cold day|snowy morning|December evening",
        [
            "[it is snowing|it started to snow|snow is falling|it snowed all night|it is snowing outside].",
            "the [lake|river|pond] is frozen.",
            "winter [is here|has come|is cold this year].",
        ],
        "Snow falls softly and [covers the roofs and trees|makes the whole town quiet].|There are [ice flowers|small drops] on the window, but [inside it is warm|the room smells of tea].",
        "Children [build a snowman|throw snowballs] in the yard, [their cheeks red from the cold|laughing out loud].|Mother brings [a bowl of hot soup|a cup of hot chocolate], and [the first sip warms us all|we gather around the table].|People hurry home, [their breath white in the air|wrapped in thick coats].",
        "Winter is cold, but [the lights at home are warm|it brings us closer together].|Under the snow, [the seeds are already waiting for spring|the earth is only sleeping].",
    ),
    Subject(
        "rain",
        "rainy day|rainy night|rainy evening|rain|rainy afternoon|rainy morning|stormy night",
        [
            "[it is raining|it's raining|it started to rain|it rained all day|it is raining outside|the rain has stopped|it never stops raining].",
            "[the rain|rain] [falls on the roof|taps on the window].",
            "I forgot my umbrella.",
            "she [stood in the rain|opened her red umbrella].",
        ],
        "The rain taps on the window [like a quiet song|and the house is very still].|People open their umbrellas, [red, blue and yellow like flowers|and hurry along the wet street].",
        "I make a cup of tea, [open an old book|sit by the window], and [time seems to slow down|listen to the drops].|The street lights [shine in the puddles|look soft in the rain], [like stars on the ground|golden and warm].|The leaves are washed clean, and [the air smells of earth|a bird shakes its feathers].",
        "When the rain stops, [there may be a rainbow|I will go for a walk].|A day like this is [made for staying at home|good for thinking of old friends].",
    ),
    Subject(
        "citynight",
        "night|city night|night in the city|evening in town|late night|night downtown",
        [
            "the city [never sleeps|is quiet tonight|is full of lights].",
            "the [street lights|city lights|lights] [are on|come on one by one].",
            "night [falls|has fallen] over the city.",
            "[the last train has left|the streets are empty|it is getting dark].",
        ],
        "One by one the street lights come on, and [the windows shine like stars|the city turns to gold].|The cars [move like a river of light|flow across the bridge], [carrying people home|slow and bright].",
        "A small restaurant [is still open|smells of noodles], and [a late guest orders a bowl of soup|the owner greets everyone with a smile].|I walk [along the river|over the old bridge|through quiet streets], [the wind in my hair|listening to music far away], and [the long day slowly fades|I feel free].",
        "The city is big, but [somewhere there is always a light for you|it has a gentle heart].|It is late now, and [tomorrow is a new day|I turn toward home].",
    ),
    Subject(
        "travel",
        "trip|journey|vacation|holiday|road trip|adventure|weekend trip",
        [
            "[we went on a trip|we are going on a trip|our trip has begun|my journey begins today|we took the train to the coast|I am traveling alone|we arrived in a small town].",
            "the [train|plane|bus|ship] [left the station|slowly began to move|is leaving].",
            "I packed my bag",
        ],
        "The train runs through [fields and valleys|small towns], and [the view outside changes like a film|I lean on the window and dream].|With a small bag on my back, [I walk into a town I do not know|I follow the old streets without a map].",
        "An old man [shows me the way|invites me for tea] and [tells me the story of the place|gives me a warm smile].|We try the local food, [take many pictures|laugh about our bad accents], and [everyone is happy|wish the day would never end].|In the evening [we watch the sunset from the hill|the lake turns to gold], and [nobody says a word|all is calm].",
        "Traveling teaches me that [the best views are found on the way|it is fine to be slow].|On the way home, [I already miss the place|my bag is full of memories].",
    ),
    Subject(
        "cooking",
        "dinner|kitchen|breakfast|lunch|family dinner|home-cooked meal|meal",
        [
            "[I am cooking dinner|I cooked dinner today|mother is cooking|the soup is ready|dinner is ready|I tried a new recipe|I baked a cake|grandma is baking bread].",
            "the kitchen [smells wonderful|is warm|is full of steam].",
            "[today I learned to cook|I love cooking].",
        ],
        "The pot [simmers on the stove|bubbles quietly], and [the whole kitchen smells wonderful|steam covers the window].|I cut the tomatoes, [beat two eggs|wash the vegetables], and [soon the pan begins to sing|everything is ready to go].",
        "My mother [tells me how much salt to use|watches with a smile] and says that [patience is the best spice|the heat matters most].|When the food is on the table, [the whole family sits down|everyone reaches for the bowl], and [nothing is left in the end|we talk and laugh until late].",
        "Happiness can be [a warm meal|as simple as fresh bread], [shared with people you love|made with care].|Next time, [I want to try a fish|I will invite my friends].",
    ),
    Subject(
        "morning",
        "morning|sunrise|Sunday morning|Monday morning|early morning|start of the day|day",
        [
            "[the sun is rising|the sun came up|I woke up early|the alarm clock rang|I opened the window].",
            "[a new day begins|a new day has begun|good weather today|the day begins].",
            "[the sun|sunlight] [shines into my room|fills the room].",
        ],
        "Light comes through the curtains, and [the room turns gold|the cat stretches on the window sill].|The street is [still quiet|slowly waking up], and [only a few birds are singing|the bakery opens its door].",
        "I make [a cup of coffee|some toast] and [write down my plans for the day|enjoy it by the window].|In the park [some people are running|the grass is wet with dew], and [everyone says good morning|the air is fresh].",
        "A new day begins, and [it is full of hope|I tell myself: you can do it].|A morning like this makes me believe that [something good will happen today|life is good].",
    ),
    Subject(
        "sea",
        "day at the beach|beach day|day by the sea|ocean|sea|evening at the beach|island",
        [
            "[we went to the beach|we are at the sea|I saw the ocean for the first time|I am standing by the sea|the children ran to the water].",
            "the [waves|sea|water] [is calm today|rolled onto the beach|sparkled in the sun|was blue].",
            "[a small boat|the ship] sailed out to sea.",
        ],
        "The waves roll onto the sand and [slip back again|leave shells and white foam].|The water is as blue as [the sky|a jewel], and [white sails move far away|seagulls circle above it].",
        "Children [build castles in the sand|run after the waves], and [nobody minds wet feet|their voices mix with the wind].|I hold a shell [to my ear|up to the light], and [I seem to hear the sea|it shines in all colors].|The sun sinks slowly, [the water turns to gold|the sky is orange and red], and [the fishing boats come home|everyone grows quiet].",
        "By the sea, [the heart grows wide|worries become small].|I know that [I will come back next year|one day I want to live near the water].",
    ),
    Subject(
        "mountain",
        "day in the mountains|hike|forest|mountain|walk in the woods|mountain village|hiking day",
        [
            "[we went hiking|we climbed a mountain|we reached the top|we walked into the forest|the path is steep].",
            "the [mountains|hills|woods] [are calling|are covered with fog|are quiet].",
            "a small stream runs through the forest.",
        ],
        "The path winds between [tall trees|old stones], and [birds call from the forest|the air smells of pine].|Fog [drifts through the valley|lies on the hills], and [the village below appears and disappears|everything looks like a painting].",
        "We [walk and rest|cheer each other on], [drink from the cold stream|share an apple], and climb on.|At the top, [the sun is just rising|everyone shouts with joy], and [the mountains have no end|all the effort was worth it].",
        "From up here, [the world looks wide|my heart feels light].|On the way down, [we promise to come again|we sing old songs].",
    ),
    Subject(
        "friend",
        "reunion|party|visit|day with friends|evening with friends|birthday party",
        [
            "[I met an old friend today|we have not met for years|my best friend came to visit|I made a new friend|she is my best friend].",
            "we sat around the table",
        ],
        "We smile at once, [as if we had never been apart|and the words do not stop].|After all these years [he is still the same|we have changed a little], but [the laughter is the same as before|it feels like yesterday].",
        "We talk about [our old school and the teachers|the days when we were young], and [we forget the time|it grows dark outside].|The tea [gets cold|is poured again and again], but [there is always one more story|nobody wants to leave].",
        "A true friend is [always in your heart|someone you can be silent with].|When we part, [we promise to meet next year|we hug for a long time].",
    ),
    Subject(
        "cat",
        "cat|dog|little cat|puppy|kitten|old dog|orange cat",
        [
            "[I have a cat|I have a dog|we have a new puppy|my cat is called Mimi|my cat loves the sun|the cat is asleep|a small cat sat at the door].",
            "[once upon a time there was a|one day a] little cat",
        ],
        "It has [bright round eyes|soft fur] and [walks without a sound|runs to me when I come home].|Every morning it [jumps on my bed|waits by the door], [its tail held high|asking for breakfast].",
        "It loves to [lie in the sun|chase a ball of wool] and [plays all afternoon|then falls asleep in a box].|When I am sad, it [sits next to me|puts its head on my hand], and [that is all I need|I feel better at once].",
        "With such a friend, [the house is never empty|every day has a little joy].",
    ),
    Subject(
        "reading",
        "book|library|bookshop|afternoon with a book|story|school day",
        [
            "[I finished a good book|I am reading in the library|I love reading|I opened an old book|I went to the bookshop|school begins today].",
            "a good book is like a friend.",
        ],
        "The pages turn softly, and [only the clock can be heard|the sun falls on the words].|I find a seat by the window and [stay there all afternoon|begin to read].",
        "The people in the story [cross mountains and seas|laugh and cry], and [I travel with them|they seem to sit beside me].|When I find a sentence I like, [I write it in my notebook|I stop and think], and [it feels like talking to the writer|something in me lights up].",
        "When I close the book, [I feel a little older|the story goes on in my head].|A good book is [like a quiet friend|always there when you need it].",
    ),
    Subject(
        "work",
        "weekend|working day|life|birthday|new year|busy day|Friday evening",
        [
            "[I am tired today|work is over at last|today is my birthday|the weekend is here|a new year has begun|I have a new job|I moved into a new home|I am happy today|today was a long day|I feel good today].",
            "life is [simple|beautiful|good].",
        ],
        "I close my computer, [stretch my arms|pour a glass of water] and [watch the sky grow dark|feel much lighter].|My family [has made a good dinner|is waiting for me], and [the house is full of laughter|the lights are warm].",
        "We [talk about the small things of the day|watch an old film together], and [time flies|nobody wants to go to bed].|I write down [three good things|how I feel today] and find that [happiness is simple|every day hides a small surprise].",
        "Life may be [ordinary|slow at times], but [it is worth our care|every step counts].|May every ordinary day [have a little light|bring something good].",
    ),
]

INTENTS = intents(SUBJECTS, _BEGIN + more.BEGINNINGS, more.REWORDINGS, "en", " ")
