# ruff: noqa: E501  (templates read best on one line)
"""More beginnings of short texts, in English; ``BEGINNINGS`` fit every subject."""

_WHO = "[I|we|she|he|the children|my grandfather|an old man|the girl|my mother|my brother]"

BEGINNINGS = [
    "[go on with this|carry on|take it from here|add to this|extend this text|complete this|what comes next]: [it was a quiet {w}|we waited for the {w}|that {w}|one {w} long ago][.|, ]",
    "[finally|at last|here it is], [a|the] {w} [has come|we had hoped for|is upon us|to remember].",
    "[nothing compares to|there is nothing like|how I love|how I missed|I could never forget|I was waiting for] [a|the|this|that] {w}[.|!]",
    "[that|this|the first|our last] {w} [changed everything|made us smile|made everyone happy|was like a dream|will stay with me|felt like a gift].",
    "[what a|such a] [bright|calm|cool|golden|cheerful|merry|silent] {w} [we have today|it was|we had|this is][!|.]",
    "[some people|poets|old people|children] [love|dream of|talk about|sing about] the {w}.",
    "[let me tell you about|I want to write about|I remember|here is a story about] [a|that|the] {w}[.|:]",
]

REWORDINGS: dict[str, list[str]] = {
    "spring": [
        "[the first|a|the] [warm day|breeze|rain|flower|butterfly|morning] of spring [made everyone smile|came early|woke the garden|is always special|has arrived].",
        "[everything|the garden|the whole valley|the park] [turned|is turning|has turned|grew] green [again|overnight|at last|in a week].",
        "[after a long winter|when the snow was gone|in April|in March], "
        + _WHO
        + " [opened the windows|planted flowers|went outside|felt alive again].",
        "[blossoms|petals|daffodils|lambs|bees] [covered the path|fell like snow|filled the meadow|were everywhere].",
    ],
    "autumn": [
        "[leaves|yellow leaves|red leaves|chestnuts] [danced in the wind|crunched under our feet|fell all day|covered the road].",
        "[in the village|in the orchard|on the farm|in the fields], [autumn was quiet|the harvest began|it smelled of apples|the air was cool].",
        _WHO
        + " [walked through|raked|picked up|ran through] the [fallen leaves|golden leaves|red leaves].",
        "[the wind|the air|the evening] [grew cold|smelled of smoke|was crisp|turned cool], and [autumn was near|the geese flew south].",
    ],
    "summer": [
        "[all summer long|that summer|every summer|last July], "
        + _WHO
        + " [swam in the lake|slept outside|stayed at the farm|ate cherries|rode bikes].",
        "the [heat|sun|air] was [heavy|hot|burning|still], [and nothing moved|so we sat in the shade|and we longed for rain].",
        "[fireflies|crickets|stars|swallows] [filled the night|lit up the garden|sang until late|flew over the field].",
        "[the holidays|vacation|school break] [began|started|had come], and [we were free|the days were long].",
    ],
    "winter": [
        "[outside|beyond the window|in the street|all night], the snow [kept falling|fell without a sound|covered everything|lay deep].",
        "[frost|ice|snow|a cold wind] [covered the window|came in the night|blew down the street|glittered on the trees].",
        _WHO
        + " [sat by the fire|built a snowman|put on a warm coat|skated on the pond|drank hot chocolate].",
        "[on Christmas Eve|in December|in January|that winter], the [village|house|forest|town] [was silent|was white|glowed with lights|slept under snow].",
    ],
    "rain": [
        "[rain|heavy rain|a soft rain|the storm] [was drumming|kept drumming|poured|fell|beat] on the [old tin roof|roof|street|garden|window].",
        "[dark clouds|thunder|lightning|drops] [came over the hill|rolled in the distance|filled the sky|ran down the glass].",
        _WHO
        + " [ran through the rain|waited under a tree|got wet|watched the rain|had no umbrella].",
        "[after the rain|before the storm|when it rains], [the air smells fresh|the street shines|everything is quiet|I stay inside].",
    ],
    "citynight": [
        "[the city|downtown|the avenue|the bridge] [glowed|glittered|was empty|hummed] [at midnight|in the dark|below us|after sunset].",
        "[taxis|neon signs|street lamps|the windows] [shone|blinked|flashed|passed by] in the [night|dark|rain].",
        _WHO
        + " [walked home|rode the last bus|crossed the bridge|stood on the balcony] [late at night|at midnight|under the lights].",
        "the moon [rose|hung|shone] over the [roofs|towers|city|harbor].",
    ],
    "travel": [
        _WHO
        + " [packed a suitcase|bought a ticket|drove for hours|boarded the train|left home] [and went to see the world|at dawn|without a plan|for the first time].",
        "[the road|the railway|the map|the journey] [led us south|went on forever|was long|took us to a small village].",
        "[in a foreign city|far from home|on the road|at the station], [everything was new|we met kind people|I felt free].",
        "[our plane landed|the bus stopped|the ship arrived|we got lost] [in a strange town|after midnight|near a market].",
    ],
    "cooking": [
        "[the smell|the scent] of [fresh bread|soup|garlic|coffee|apple pie] [filled the house|woke me up|came from the kitchen|drew us in].",
        _WHO
        + " [stirred the soup|rolled out the dough|chopped onions|set the table|made pancakes|baked cookies].",
        "[Sunday lunch|supper|the feast|the pie|our meal] was [ready|delicious|on the table|simple but good].",
        "[there is nothing like|I remember] [grandma's soup|my mother's cooking|homemade bread|a hot meal].",
    ],
    "morning": [
        _WHO
        + " [woke before dawn|got up early|drank coffee on the porch|went for a run|watched the sunrise].",
        "[at dawn|at six|early in the day|when the rooster crowed], [the street was empty|the fields were misty|birds sang|the world was still].",
        "[sunlight|the first light|golden light] [came through the curtains|touched the roofs|fell on my bed].",
        "[today|this day|the day] [started well|is a fresh start|began with a smile|is full of promise].",
    ],
    "sea": [
        "the [sea|ocean|tide|surf] [was calm|roared|sang|shimmered] [at dawn|below the cliff|all night|in the moonlight].",
        _WHO
        + " [drove to the sea|walked along the beach|collected shells|sat on the pier|dived into the waves] [at dawn|at sunset|].",
        "[seagulls|fishing boats|white sails|dolphins] [circled above|came home|crossed the bay|followed us].",
        "[salt|sand|foam|the smell of seaweed] was [in the air|everywhere|on my skin].",
    ],
    "mountain": [
        _WHO
        + " [climbed the hill|followed the trail|reached the summit|camped in the forest|crossed a stream].",
        "the [trail|forest|valley|peak|summit] [was covered in mist|led upward|lay below us|was silent|smelled of pine].",
        "[high above|up in the hills|deep in the woods|at the top], [an eagle circled|there was a small hut|the air was thin|we could see forever].",
        "[a waterfall|a brook|an owl|the wind] [fell from the rocks|ran through the woods|called in the night|moved the pines].",
    ],
    "friend": [
        _WHO
        + " [met an old classmate|hugged a friend|waited for a friend|wrote to an old friend] [at the station|after ten years|yesterday|].",
        "[my friends|old friends|our neighbors|everyone] [came over|laughed all night|sat around the fire|told stories].",
        "[friendship|a friend|true friendship] is [like a warm light|a treasure|worth more than gold].",
        "[when we said goodbye|on the last day of school|at the party], [we all cried|we took a photo|we danced|we laughed].",
    ],
    "cat": [
        "the [little dog|kitten|cat|puppy|old dog|rabbit] [waited at the door|slept on my lap|chased its tail|hid under the bed|followed me home] [every evening|all day|again|].",
        _WHO + " [found|adopted|fed|carried] a [stray cat|small puppy|hungry dog|tiny kitten].",
        "[our|my|the neighbor's] [cat|dog] [loves to sleep|is afraid of thunder|knows a trick|looks out of the window].",
    ],
    "reading": [
        _WHO
        + " [opened a book|read by candlelight|closed the book|borrowed a novel|wrote in a diary].",
        "the [library|classroom|bookshop|old bookstore] was [quiet|full of dust|almost empty|my favorite place].",
        "[in the book|in the story|on the first page], [a hero sets out|there was a secret|a girl finds a key|someone had written a note].",
        "the [bell rang|teacher came in|lesson began|new school year started][, and we sat down.|.]",
    ],
    "work": [
        "[after a long day|after work|at the end of the week|on my day off], "
        + _WHO
        + " [went home|took a bath|sat on the sofa|called home].",
        "[time|life|the year|youth] [flies|goes by so fast|is like a river|passes quietly|is full of surprises].",
        "[on my birthday|at midnight on New Year's Eve|on my first day at work|in my new home], I [felt nervous|made a wish|looked back|started over].",
        _WHO
        + " [worked hard all year|finished the project|got the first salary|dreamed of a break].",
    ],
}
