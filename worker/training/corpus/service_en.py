# ruff: noqa: E501  (templates read best on one line)
"""The customer-service desk, in English."""

from training.corpus import slots as s
from training.corpus import things
from training.grammar import Intent, words

_OWN = "[my|my|my|our|the|this|my mother's|my son's|my brand new|my wife's]"
_HELLO = "[hi, |hello, |hello! |excuse me, |||||]"
_HELP = "[what should I do?|what can I do?|can you help?|please help.|how do I fix it?|any ideas?|what's wrong?|]"
_SORRY = "[I'm sorry about that.|Sorry for the trouble.|Sorry to hear that.|I'm sorry for the inconvenience.|Let me help you with that.|Thanks for letting us know.]"
_END = "[If it still does not work, please contact our support team.|If the problem remains, I can connect you to a person.|Tell me if that helps.|I hope this helps.|Let me know how it goes.|]"


def _intent(
    name: str, user: list[str], reply: list[str], weight: float = 1.0, **slots: object
) -> Intent:
    followups = slots.pop("followups", ())
    return Intent(name, "en", user, reply, slots, followups, weight=weight)  # type: ignore[arg-type]


INTENTS = [
    _intent(
        "network",
        [
            _HELLO
            + "[why does|why doesn't|how come|any idea why] "
            + _OWN
            + " {phone} [have no signal|not have a signal|have no service|show no service|get no signal|have any signal|keep losing signal|have such a weak signal|have no network|have bad reception|get no reception]?",
            _HELLO
            + _OWN
            + " {phone} [has no signal|has no service|has lost its signal|can't find a signal|cannot find the network|shows no service|says no service|has no bars|has only one bar|has a weak signal|has terrible reception|has no reception|can't make calls|cannot make any calls|keeps dropping calls|won't connect to the network|is not getting any signal|keeps losing the signal|suddenly lost its signal|suddenly shows no bars|shows zero bars|has absolutely no reception|has zero signal|drops every call|cannot make or receive calls|has awful signal|is out of service|gets no network] [since yesterday|since this morning|at {place}|in {place}|today|all the time|again|][. |, ]"
            + _HELP,
            "[no signal|no service|bad reception|weak signal|there is no signal|I get no signal|I have no signal|I can't get a signal|I can't get any reception|there is no reception] [on|with] "
            + _OWN
            + " {phone}[. |, ]"
            + _HELP,
            "[my calls keep dropping|calls always break up|the signal is awful|the signal is very weak|the reception is terrible|the network is gone|the signal keeps disappearing] on "
            + _OWN
            + " {phone}[. |, ]"
            + _HELP,
            "why is "
            + _OWN
            + " {phone} [not finding a signal|not getting any signal|without signal|losing its signal|out of service|offline|not connecting to the network] [at {place}|in {place}|all day|today|]?",
            "[there's|there is|we have] [no signal|no reception|absolutely no signal|hardly any signal] on "
            + _OWN
            + " {phone} [at {place}|in {place}|here|][. |, ]"
            + _HELP,
            "[why is|why is there] no signal [on|for] " + _OWN + " {phone}?",
            "[I have no|there is no|I never get a|I can't get any] signal [in|at] {place}[.|, |. ]"
            + _HELP,
        ],
        [
            _SORRY
            + " If your {phone} has no signal, [first turn airplane mode on and off|please turn airplane mode on and off first], [then restart it|and then restart the device]. [Also check that the SIM card is in place.|Please also check that the SIM card sits properly.] "
            + _END,
            _SORRY
            + " [There are a few things to check on your {phone}:|Please try these steps with your {phone}:] [turn off airplane mode|make sure airplane mode is off], [take out the SIM card and put it back|reinsert the SIM card], [and restart it|and move to an open place]. "
            + _END,
            "[Hello!|] A {phone} without a signal is [usually|often] caused by [weak coverage, a loose SIM card or an unpaid bill|a weak network in your area or a loose SIM card]. [Try moving to a window or outside|Please go to another place], [restart it|reinsert the SIM card] and [check your balance|try again]. "
            + _END,
        ],
        weight=3.0,
        phone=things.en_phone,
        place=words(
            "the basement|the elevator|my house|the office|the mountains|school|the train|my apartment|the garage|the mall|the subway|my room|the village|the countryside"
        ),
        followups=[
            (
                "[I tried that|I restarted it|I did all that], [but it still does not work|but there is still no signal|no luck].",
                "[I see.|Thank you for trying.] Please put the SIM card into another phone. If there is still no signal, [the card may be broken and we can replace it for free|the card is probably faulty, and our shop can replace it].",
            ),
            (
                "[It works now|That helped|It is fixed], thank you!",
                "[Great, I'm glad it works again!|You're welcome, I'm happy to hear that!] Have a nice day.",
            ),
        ],
    ),
    _intent(
        "slow",
        [
            _HELLO
            + "[why is|how come] [the internet|the network|the connection|Wi-Fi] [on|of] "
            + _OWN
            + " {computer} [so slow|very slow|slow today|unstable|so bad]?",
            _HELLO
            + "[the internet|the network|the connection|Wi-Fi|my Wi-Fi|the internet connection] [on {computer_the} |][is very slow|is so slow|is too slow|is slow today|keeps dropping|keeps disconnecting|is unstable|does not work well][. |, ]"
            + _HELP,
            _HELLO
            + _OWN
            + " {computer} [is very slow online|can't connect to Wi-Fi|won't connect to the internet|keeps buffering|loads pages slowly|loses the connection|takes forever to load anything|has a slow connection|can't get online][. |, ]"
            + _HELP,
            "[our|my|the] [internet|home internet|Wi-Fi|broadband|network] [crawls|is slow|is down|drops out|is terrible|stops] [every evening|at night|since yesterday|all day|again|][.|, can it be fixed?|, can you fix it?]",
            "how [can|do] I [make the internet faster|speed up the internet|fix a slow connection] on "
            + _OWN
            + " {computer}?",
        ],
        [
            _SORRY
            + " If the connection of your {computer} is slow, [restart the router first|please restart the router and the device], [wait one minute and connect again|then move closer to the router]. [Closing large downloads also helps.|Please also close programs that download in the background.] "
            + _END,
            "[Hello!|] A slow connection on your {computer} [often means|usually means] that [the router is too far away|too many devices are online|a program is downloading in the background], [or that the router needs a restart|or that the line is being repaired]. Please restart the router and [run a speed test|try again]. "
            + _END,
        ],
        computer=lambda r: (lambda c: {"computer": c, "computer_the": f"my {c}"})(
            things.en_computer(r)
        ),
    ),
    _intent(
        "refund",
        [
            _HELLO
            + "[I want|I would like|I'd like|I need|can I get|could I have|please give me|how do I get] [a refund|my money back] [for|on] [my|the|this] {product}[.|?|, please.|. The order number is {order}.]",
            _HELLO
            + "[I want a refund.|refund please.|I'd like my money back.|please refund my order {order}.|I want to get a refund for order {order}.|can you refund me?|can I have my money back?]",
            "[when will I get|where is|how long does it take to get|when do I receive] [my refund|the refund|the money] [for the {product}|]?",
            "the {product} [I bought|I got from you|I ordered] [last week|yesterday|last month|] [broke|stopped working|is useless|fell apart], [give me my money back|so I want my money back|please return my money|I demand a refund][.|!|]",
            "the {product} [I bought|you sold me|from your shop] [is bad|is terrible|does not work|is not what I wanted], [I want my money back|please refund me|can I get a refund?]",
        ],
        [
            "[Of course.|Sure.|No problem.] I can help with the refund for the {product}. Please [send me your order number|give me the order number] [and the reason|], and [once it is approved|after the check] the money will be back in your account within [three to five working days|five working days|seven days].",
            _SORRY
            + ' You can ask for a refund for the {product} in "My orders": [open the order, choose "Refund" and give a reason|choose the order and tap "Refund"]. [It usually takes three to five working days.|The money goes back to your original account in three to five days.]',
        ],
        product=things.en_product,
        order=s.order_number,
        followups=[
            (
                "[My order number is|The number is|It is|] {order}.",
                "[Thank you.|Got it.] [I have noted the refund request for order {order}|The refund for order {order} is on its way], and the money will arrive in three to five working days.",
            )
        ],
    ),
    _intent(
        "return",
        [
            _HELLO
            + "[how do I|how can I|I want to|I would like to|I'd like to|can I|is it possible to] [return|exchange|send back|swap] [my|the|this|a] {product}[?|.|, please.]",
            "[this|the] {product} [does not fit me|doesn't fit|is not for me|is too tight|is too heavy], [I'd love to swap it.|I want to change it.|I want to send it back.|can I return it?|I would like another size.]",
            _HELLO
            + "the {product} [I ordered|I received|I bought|you sent me] [is too big|is too small|is broken|has a scratch|is the wrong color|is the wrong size|is damaged|does not look like the picture|arrived damaged][.|. I want to return it.|, can I exchange it?|. How do I return it?|, I want to send it back.]",
        ],
        [
            '[Yes, of course.|No problem.|Certainly.] You can return or exchange the {product} within [seven days|fourteen days] of delivery. Please [keep the package complete|keep the original package], [choose "Return" in your order|open your order and tap "Return"], and [we will send someone to pick it up|a courier will pick it up for free].',
            _SORRY
            + " [We will gladly exchange the {product} or take it back.|We will take back the {product}.] Please [send a photo and your order number|give me the order number and a photo], [and tell me whether you want a new one or a return|and choose a return or an exchange]. [We pay for the shipping.|We will take care of it quickly.]",
        ],
        product=things.en_product,
    ),
    _intent(
        "delivery",
        [
            _HELLO
            + "[where is|when will I get|when do I receive|what happened to|I am still waiting for|I haven't received|I still have not received] my {parcel}[?|, please?|. It has been a week.|.]",
            "[it has been|I have waited|it's been] [ten days|a week|two weeks|five days|a long time] and my {parcel} [is not here|still isn't here|has not come|is still missing][.|!|, where is it?]",
            _HELLO
            + "my {parcel} [has not arrived|hasn't arrived yet|is late|still has not arrived|seems to be lost|was not delivered|has not been shipped yet|is delayed][.|, where is it?|. Can you check?|, please check.]",
            "[track|can you track|please track|please check|check the status of|where is] [order|my order|package|my package] {order}[.|?|, please.]",
            "when will my {parcel} [arrive|be delivered|come|be shipped|get here]?",
            "[how long does|how many days does] [delivery|shipping] [take|of my {parcel} take]?",
        ],
        [
            '[Hello,|Sure,|Of course,] let me check the delivery of your {parcel}. [Please tell me your order number|Please send me the order number], [or look at "My orders" for its current place|or open "My orders" to see where it is]. [Delivery usually takes two to four days.|It usually arrives about three days after shipping.]',
            _SORRY
            + " Your {parcel} [may be a little late on its way|may be delayed by the weather|is probably out for delivery]. Please [give me the order number|send me your order number] and I will [ask the courier at once|contact the courier], [and keep you informed|and let you know].",
        ],
        parcel=s.one_of(
            words("package parcel order delivery order shipment food item"), things.en_product
        ),
        order=s.order_number,
        followups=[
            (
                "[My order number is|The number is|It's|] {order}.",
                "Thank you. Order {order} [is on its way|has left our warehouse] and [should arrive within two days|will be with you soon].",
            )
        ],
    ),
    _intent(
        "password",
        [
            _HELLO
            + "[I forgot|I have forgotten|I lost|I can't remember|I don't remember|I do not know] [my|the] {account} password[.|, what now?|. How do I reset it?|, please help.|. What should I do?]",
            "[how do I|how can I|I want to|please help me|I need to|can you] [reset|change|recover|get back] [my|the] {account} password[?|.]",
            _HELLO
            + "[I can't log in to|I cannot sign in to|I can't get into|I am locked out of] my {account} [account|][.|, please help.|. What should I do?]",
            "what [do I do|should I do|can I do] if I [forgot|lost|can't remember] [my {account} password|the password of my {account}|the password for my {account}]?",
            "my {account} password [does not work|is wrong|is not accepted][.|, what can I do?|. Help!]",
        ],
        [
            '[Don\'t worry.|No problem.|I can help with that.] To reset your {account} password, [choose "Forgot password" on the login page|tap "Forgot password" where you sign in], [enter your phone number or email|confirm your email or phone number], [and set a new password with the code you receive|and type the code to choose a new one]. [Please never share the code with anyone.|Please choose a strong password.|]',
            '[Sure.|Of course.|Don\'t worry.] Open the {account} login page and [click "Forgot password"|choose "Reset password"]. [After you confirm who you are|Once your phone number is confirmed], you can set a new password. [If no code arrives, our support team will help you.|Keep the new one in a safe place.|]',
        ],
        account=words(
            "account email bank Wi-Fi router member shop app website game school company mail login cloud music"
        ),
    ),
    _intent(
        "invoice",
        [
            _HELLO
            + "[I need|I want|can I get|could I have|please send me|I'd be glad to have|I would like to have|may I have|can you give me|could you send me] [an invoice|a receipt|an electronic invoice|the bill] [for|of] [my|the] {product}[.|?|, please.|. It is for {company}.]",
            "[how do I|where can I|how can I] [get|download|ask for|request] [an invoice|a receipt|my invoice] [for the {product}|for my order|]?",
        ],
        [
            '[Sure.|No problem.|Of course.] Please open "My orders", choose "Invoice" and [enter the company name and tax number|fill in the name and the tax number]. The invoice [will be in your mailbox within one day|is sent to your email within a day].',
            "[Certainly.|Yes, of course.] For the invoice I need [a name, a tax number and an email address|the company name, its tax number and your email]. [Please send me these details|Once I have them], and we will [issue it within one working day|send it within one working day].",
        ],
        product=things.en_product,
        company=s.company,
    ),
    _intent(
        "screen",
        [
            _HELLO
            + "the screen of "
            + _OWN
            + " {gadget} [is broken|is cracked|stays black|is black|does not respond|has a line on it|is shattered|went dark][.|, can you repair it?|. How much is a repair?|. Is it under warranty?|. ]"
            + _HELP,
            "[I sat on|I dropped|I stepped on|my son dropped] my {gadget} and now [its|the] screen is [cracked|broken|black][. |, ]"
            + _HELP,
            _HELLO
            + "[I dropped|I broke|I cracked the screen of|I damaged] "
            + _OWN
            + " {gadget}[ and the screen cracked|, now the screen is black|][.|, can it be repaired?|, how much is a new screen?|. ]"
            + _HELP,
            _HELLO
            + _OWN
            + " {gadget} [has a broken screen|has a cracked screen|screen is cracked|screen is broken][.|, can you fix it?|. ]"
            + _HELP,
            "how much [does it cost|is it] to [repair|replace|fix] [the screen of a|a] {gadget} [screen|]?",
        ],
        [
            _SORRY
            + " The screen of your {gadget} can be [replaced at our repair shop|repaired by our service center]. Please [back up your data|save your data first] and [book a repair near you|bring the receipt to the nearest shop]. [Damage from a fall is not covered by the warranty.|We tell you the price after a check.]",
            "[Oh no!|I'm sorry to hear that.] Please [turn off your {gadget} and mind the glass|stop pressing the screen of your {gadget}]. [You can book a repair online|We can repair it in the shop], and [it is usually ready the same day|it takes one or two days]. [We will tell you the price before we start.|The price depends on the check.]",
        ],
        gadget=things.en_screen,
    ),
    _intent(
        "battery",
        [
            _HELLO
            + "[why does|how come] the battery of "
            + _OWN
            + " {gadget} [drain so fast|die so quickly|last only an hour|get so hot|not charge|run down so fast]?",
            _HELLO
            + _OWN
            + " {gadget} [won't charge|does not charge|charges very slowly|runs out of battery too fast|gets very hot|loses battery quickly|dies after an hour|needs charging all the time|is empty after an hour|battery is empty after half an hour|battery is dead again|won't turn on][. |, ]"
            + _HELP,
            _HELLO
            + "the battery of "
            + _OWN
            + " {gadget} [is bad|drains quickly|does not last|is swollen|dies too fast|is weak][. |, ]"
            + _HELP,
            "[poor|bad|terrible] battery life on " + _OWN + " {gadget}[. |, ]" + _HELP,
        ],
        [
            "[Sorry about that.|Let me help.|Hello!] To help the battery of your {gadget}, [lower the screen brightness|close the apps you do not use], [try another cable and charger|use the original charger] and [install the latest update|clean the charging port]. [If the battery is more than two years old, it may be time for a new one.|If that does not help, we can test the battery for free.]",
            _SORRY
            + " A {gadget} that [loses power quickly or charges slowly|has battery trouble] [often has too many apps running or an old battery|usually has an aging battery or the wrong charger]. Please [restart it and close the apps in the background|try another charger first], [and check the battery health in the settings|or let our shop test it for free]. "
            + _END,
        ],
        gadget=things.en_gadget,
    ),
    _intent(
        "billing",
        [
            _HELLO
            + "[why is my bill so high|my bill is wrong|my bill is too high|why was I charged {amount} dollars|you charged me {amount} dollars too much|I was charged twice|there is a charge of {amount} dollars I don't know|somebody billed me {amount} dollars|you billed me {amount} dollars and I don't know why|I was billed {amount} dollars for nothing|you took {amount} dollars from my card|I paid {amount} dollars too much|there is a mistake on my bill][?|.|, please check.|. Can you explain?]",
            "[where can I|how do I|how can I] [see my bill|check my bill|check my balance|pay my bill|find my billing details|top up my account]?",
        ],
        [
            _SORRY
            + " Let me check your bill. Please [give me your account number|tell me your phone number or account], and [we will go through every charge|I will check each charge]. [If we took too much, you get it back within three working days.|Anything charged by mistake will be refunded.]",
            '[Sure.|Hello!|Of course.] You can see every charge under ["My account", "Bills"|"Bills" in the app]. [If a charge looks wrong|If there is one you do not know], [tell me its date and amount|send me a picture of it] and I will look into it right away.',
        ],
        amount=lambda rng: str(rng.choice((rng.randint(1, 300), rng.randint(1, 30) * 10))),
    ),
    _intent(
        "cancellation",
        [
            _HELLO
            + "[I want to|I would like to|I'd like to|please|can you|how do I|how can I|I need to|help me] [cancel|stop|end|close] my {plan}[.|?|, please.]",
            "[please|can you|please help me to|help me] [end|quit|terminate|get out of] my {plan}[.|?|]",
            "[I don't need|I no longer want|I no longer need|I don't want] my {plan} [any more|anymore|]. [How do I cancel it?|Please cancel it.|Can I cancel?|]",
        ],
        [
            '[Sure.|No problem.|Of course.] You can cancel your {plan} in ["Settings" under "Subscriptions"|"My account"], and [you will not be charged next month|there will be no further charges]. [Shall I cancel it for you now?|If you like, I can do it for you.]',
            "[I understand.|All right.] To cancel your {plan} I need to [confirm your phone number|check who you are], so please [send me your account name|tell me your registered number]. [It ends with the current month|There will be no new charges], and [you are always welcome back|your data stays for thirty days].",
        ],
        plan=s.one_of(
            words(
                "membership|subscription|plan|order|booking|appointment|data plan|account|broadband contract|insurance|course|hotel reservation|flight|contract|gym membership|music subscription|phone contract|trial"
            ),
            lambda r: things.en_product(r) + " order",
        ),
    ),
    _intent(
        "hours",
        [
            _HELLO
            + "[what are your opening hours|when do you open|when do you close|what time do you open|what time do you close|are you open {day}|are you open on weekends|is the shop open {day}|when is the store open|what are your business hours|is the shop still open {day}|do you open late {day}|how late are you open {day}|until when are you open {day}|is anyone there {day}|what time does the store close {day}]?",
        ],
        [
            "[Hello!|] We are open every day from [nine in the morning to nine in the evening|9 am to 9 pm], [also on holidays|and online support is here around the clock]. [We look forward to your visit.|See you soon!|]",
            "Our shops [open at nine and close at nine in the evening|are open from 9 am to 9 pm], [seven days a week|on weekends too]. [Please call before you come on a holiday.|Online support never closes.]",
        ],
        day=words(
            "today|tomorrow|on Saturday|on Sunday|on Monday|on Christmas|on holidays|at the weekend|tonight|on New Year's Day|this evening"
        ),
    ),
    _intent(
        "human",
        [
            _HELLO
            + "[I want to|can I|let me|please let me|I would like to|may I|I need to] [talk to a human|speak to a person|talk to a real person|speak with an agent|talk to someone|speak to your manager|talk to support|chat with a human agent][.|?|, please.|!]",
            "[human please|agent|a real person, please|I don't want to talk to a robot|enough of this bot|no more bots, give me a person|get me a real person|get me a human|connect me to an agent|transfer me to a human|get me a manager|I want to complain|I want to make a complaint|your service is terrible, I want to complain][.|!|, now!|]",
        ],
        [
            "[Of course.|Sure.|I understand.] I am connecting you to a colleague, [please hold on|please stay with us]. [To save time, please describe the problem in a few words.|There may be a few people before you, thank you for waiting.|You may also leave a phone number.]",
            "[I'm sorry I could not help.|I'm sorry about the trouble.|All right.] I will [hand you over to a person now|pass you to one of our agents], [who will be with you shortly|please wait a moment]. [I will pass on what you have told me.|Please write down your question in the meantime.|]",
        ],
    ),
    _intent(
        "product",
        [
            _HELLO
            + "[do you have|do you sell|I am looking for|I'm looking for|I want to buy|can you recommend|I need] [a good|a new|a cheap|some|a] {product}[?|.|, please.]",
            _HELLO
            + "[how much is|what is the price of|is there a discount on|is there a warranty on|what colors are there for|how do I use|how do I install] [the|this|your] {product}?",
            "is [the|this|your] {product} [in stock|available|on sale|any good|waterproof|still under warranty]?",
        ],
        [
            "[Hello!|Thank you for your interest!|] The {product} is [in stock|available now], [with a one-year warranty|with free returns for fourteen days], [and ships the next day|and shipping is free]. [Prices and colors are on the product page.|Please see the product page for details.]",
            "[Sure!|Gladly!|] We have [several kinds of {product}|a few models of {product} to choose from]. [Tell me your budget and what you need it for|What is your budget], and I will [help you choose|find a good one for you]. [There is a discount this week.|The product page has all the details.]",
        ],
        product=things.en_product,
    ),
    _intent(
        "address",
        [
            _HELLO
            + "[I want to|can I|how do I|I need to|I'd like to|please help me] [change my address|change the delivery address|update my shipping address|send my order to {city} instead|change my phone number][.|?|, please.]",
            "[I moved to {city}|I entered the wrong address|my address is wrong|I am in {city} now], [can you change it?|what now?|please change the address.|can I still change the order?]",
        ],
        [
            '[Yes.|No problem.|Sure.] If the order has not been shipped, [open it and choose "Change address"|you can change the address under "My orders"]. [If it is already on its way, we will ask the courier to change it.|If it has been shipped, please send me the order number and the new address.]',
        ],
        weight=0.7,
        city=things.en_city,
    ),
]
