# ruff: noqa: E501  (lists of words read best on one line)
"""Things, places, tasks and messages that answers repeat: the known, the varied and the new.

A share of every draw is a word or a combination that the model can hardly have met, so
that it learns to read it off the question instead of guessing a frequent one.
"""

import random
from collections.abc import Callable, Sequence

from training.corpus import slots as s
from training.corpus.novelty import new_hanzi, new_word
from training.grammar import Slots, choose, words

Sampler = Callable[[random.Random], str]

_ZH_ATTRIBUTES = words(
    "红色的 蓝色的 黑色的 白色的 绿色的 粉色的 新 旧 小 大 儿童 无线 智能 折叠 便携 女式 男式 二手 进口 迷你 电动 老式 木头 不锈钢"
)
_EN_ATTRIBUTES = words(
    "red blue black white green pink yellow small large cheap wireless electric wooden smart mini portable grey silver leather plastic children's folding purple orange"
)
_ZH_MORE_PRODUCTS = words(
    "沙发 茶几 衣柜 鞋柜 冰箱 洗衣机 微波炉 烤箱 热水壶 豆浆机 榨汁机 面包机 榨菜 口红 面霜 香水 洗发水 牙刷 毛巾 浴巾 被子 床单 拖鞋 皮鞋 靴子 凉鞋 袜子 手套 皮带 钱包 手提包 书包 铅笔盒 钢笔 笔记本 计算器 地球仪 望远镜 三脚架 鼠标垫 硬盘 U盘 充电线 耳塞 话筒 电钢琴 小提琴 口琴 羽毛球拍 篮球 足球 瑜伽垫 跑步机 哑铃 泳衣 滑板 钓鱼竿 花盆 鱼缸 猫砂盆 狗窝 婴儿车 奶瓶 尿布 积木 娃娃 台历 挂钟 闹钟 镜子 梯子 工具箱 电钻 螺丝刀 灯泡 插线板 门锁 体重秤 血压计 按摩椅 茶杯 菜刀 砧板 饭盒 保温杯 红酒 月饼 巧克力"
)
_EN_MORE_PRODUCTS = words(
    "sofa|wardrobe|shelf|fridge|washing machine|microwave|dishwasher|juicer|lipstick|perfume|towel|blanket|pair of boots|pair of sandals|belt|wallet|handbag|pencil case|fountain pen|notebook|calculator|globe|telescope|tripod|hard drive|charging cable|microphone|piano|violin|drum|racket|basketball|yoga mat|treadmill|swimsuit|skateboard|fishing rod|flower pot|fish tank|stroller|baby bottle|doll|calendar|wall clock|mirror|ladder|toolbox|drill|light bulb|door lock|bathroom scale|massage chair|teapot|knife set|lunch box|thermos|raincoat|helmet|sleeping bag|grill|vase|picture frame|sewing machine|iron|heater|doorbell|printer|scanner|webcam|board game|cookbook|necklace|ring|bracelet|pair of gloves|pair of socks|skirt|coat|suit|tie|cap"
)
_ZH_NOUNS = words("机 灯 包 盒 表 椅 锅 杯 架 车 衣 鞋 箱 刀 琴 板 垫 帽 枕 扇")


def _new_zh_thing(rng: random.Random) -> str:
    name = new_hanzi(rng) + new_hanzi(rng)
    return name + rng.choice(("", "牌", "牌的")) + rng.choice((*s.ZH_PRODUCTS, *_ZH_MORE_PRODUCTS))


def zh_product(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.4:
        return rng.choice(s.ZH_PRODUCTS)
    if style < 0.65:
        return rng.choice(_ZH_MORE_PRODUCTS)
    if style < 0.8:
        return rng.choice(_ZH_ATTRIBUTES) + rng.choice((*s.ZH_PRODUCTS, *_ZH_MORE_PRODUCTS))
    if style < 0.9:
        return _new_zh_thing(rng)
    return new_hanzi(rng) + new_hanzi(rng) + rng.choice(_ZH_NOUNS)


def en_product(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.4:
        return rng.choice(s.EN_PRODUCTS)
    known = rng.choice((*s.EN_PRODUCTS, *_EN_MORE_PRODUCTS))
    if style < 0.65:
        return rng.choice(_EN_MORE_PRODUCTS)
    if style < 0.8:
        return f"{rng.choice(_EN_ATTRIBUTES)} {known}"
    if style < 0.9:
        return f"{s.rare_name(rng)} {known}"
    return new_word(rng)


def known_or_new(
    known: Sequence[str], new: Sampler, share: float = 0.25
) -> Callable[[random.Random], str]:
    """A sampler of a list, which now and then makes a new one."""
    return lambda rng: new(rng) if rng.random() < share else rng.choice(known)


def _new_zh_place(rng: random.Random) -> str:
    name = new_hanzi(rng) + (new_hanzi(rng) if rng.random() < 0.6 else "")
    return name + rng.choice(("", "", "市", "县", "镇", "村", "山", "岛", "湾", "州"))


def _new_en_place(rng: random.Random) -> str:
    name = s.rare_name(rng)
    return rng.choice((name, name, f"{name} City", f"Port {name}", f"{name} Falls", f"New {name}"))


def _branded(kinds: Sequence[str], language: str) -> Sampler:
    """A kind of device, of a maker or an owner."""

    def sample(rng: random.Random) -> str:
        if language == "en":
            return f"{rng.choice((s.rare_name(rng), *_EN_ATTRIBUTES))} {rng.choice(kinds)}"
        brand = rng.choice((new_hanzi(rng) + new_hanzi(rng), rng.choice(_ZH_ATTRIBUTES)))
        return brand + rng.choice(kinds)

    return sample


zh_city = known_or_new(s.ZH_CITIES, _new_zh_place)
en_city = known_or_new(s.EN_CITIES, _new_en_place)
zh_phone = known_or_new(s.ZH_PHONES, _branded(s.ZH_PHONES, "zh"), 0.15)
en_phone = known_or_new(s.EN_PHONES, _branded(s.EN_PHONES, "en"), 0.15)
zh_computer = known_or_new(s.ZH_COMPUTERS, _branded(s.ZH_COMPUTERS, "zh"), 0.15)
en_computer = known_or_new(s.EN_COMPUTERS, _branded(s.EN_COMPUTERS, "en"), 0.15)
zh_gadget = known_or_new(s.ZH_GADGETS, _branded(s.ZH_GADGETS, "zh"), 0.2)
en_gadget = known_or_new(s.EN_GADGETS, _branded(s.EN_GADGETS, "en"), 0.2)
zh_screen = known_or_new(s.ZH_SCREENS, _branded(s.ZH_SCREENS, "zh"), 0.2)
en_screen = known_or_new(s.EN_SCREENS, _branded(s.EN_SCREENS, "en"), 0.2)

_ZH_MESSAGES = [
    "[我|他|她|我们|妈妈|老板][今天|明天|今晚|下午|周末|下周|马上|刚刚|][不来|出差|加班|请假|回来|出发|到站|休息|开会|迟到|搬家|过生日]了",
    "[会议|课|比赛|车|火车|飞机|饭|聚会|演出|面试|考试][改到|推迟到|提前到|定在|是][明天|周三|下午|三点|六点|晚上|下个月|后天]",
    "[快递|钥匙|雨伞|文件|药|票|礼物|钱][放在|在|留在][桌上|门口|柜子里|前台|车上|邻居家|抽屉里|你包里]",
    "[晚上|明天|周末|中午|下班后][一起|去|我们去][吃饭|看电影|打球|爬山|喝茶|逛街|唱歌|跑步]吧",
    "[你|您][到家了吗|吃饭了没|几点下班|在哪里|什么时候回来|带钥匙了吗|有空吗|身体好些了吗]",
    "[别|不要][等我|担心|忘了带伞|熬夜|迟到|着急|告诉他|买菜]了?",
]
_EN_MESSAGES = [
    "[the|my|our] [bus|train|flight|meeting|lesson|dinner|game|show|class|party|package|doctor|interview] [is late|is canceled|was moved|starts at {n}|is on {day}|is over|starts soon|is at {n}|was great|has begun]",
    "I [will|can't|cannot|might|won't|have to] [come|stay|leave|cook|work|call|sleep|help|join|drive|pay|wait] [today|tonight|tomorrow|later|on {day}|at {n}|this week]",
    "[the|my|your] [key|umbrella|coat|book|bag|letter|phone|money|cake|medicine] is [on the table|in the car|at the door|under the mat|at home|in the kitchen|with the neighbor|in your room]",
    "[let's|we should|I want to] [have lunch|see a movie|go swimming|go for a walk|have a coffee|play tennis|study|meet] [today|tonight|tomorrow|on {day}|at {n}]",
    "[we|they|she|he] [arrived|left|won|lost|called|agreed|said yes|fell asleep|moved out] [an hour ago|yesterday|this morning|already|at {n}]",
]


def zh_message(rng: random.Random) -> str:
    return choose(rng, rng.choice(_ZH_MESSAGES)).replace("了?", "了")


def en_message(rng: random.Random) -> str:
    template = choose(rng, rng.choice(_EN_MESSAGES))
    number = rng.choice(words("one two three four five six seven eight nine ten 3 4 5 6 7 8 11"))
    day = rng.choice(words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"))
    return template.replace("{n}", number).replace("{day}", day)


_ZH_TASKS = [
    "[去|][买|取|寄|修|洗|退|还|看|选|借|送|装|拆|挂][一下|一个|]{thing}",
    "[参加|准备|预约|安排|取消|出席][家长会|体检|考试|婚礼|面试|培训|聚餐|年会|讲座|手术|比赛|演出]",
    "[交|提交|修改|核对|打印|填写|签][合同|表格|报告|论文|申请|作业|计划|账单|简历|材料]",
    "[打扫|整理|检查|布置|装修][厨房|客厅|卧室|书房|院子|仓库|办公室|阳台]",
    "[练|学|教|上][钢琴|书法|游泳|英语|吉他|舞蹈|画画|数学|象棋|跆拳道][课|]",
    "[接|送|看望|陪|拜访|联系]{who}",
]
_EN_TASKS = [
    "[buy|get|return|fix|pick up|clean|pack|sell|wrap|order|repair|bring] the {thing}",
    "[prepare|review|print|sign|finish|hand in|check|submit|fill in] the [contract|form|report|essay|application|plan|invoice|list|slides|homework]",
    "[book|confirm|cancel|pay for] the [hotel|flight|table|appointment|tickets|course|taxi|trip]",
    "[clean|tidy up|paint|check|decorate|sweep] the [kitchen|garage|attic|garden|bathroom|office|basement|balcony]",
    "[practice|study|teach|learn] [piano|Spanish|math|guitar|chess|drawing|swimming|French|karate]",
    "[meet|visit|thank|email|help|pick up|interview|pay] {who}",
]


def zh_task(rng: random.Random) -> str:
    template = choose(rng, rng.choice(_ZH_TASKS))
    return template.replace("{thing}", zh_product(rng)).replace("{who}", s.zh_person(rng))


def en_task(rng: random.Random) -> str:
    template = choose(rng, rng.choice(_EN_TASKS))
    who = s.rare_name(rng) if rng.random() < 0.6 else rng.choice(s.EN_FIRST)
    return template.replace("{thing}", en_product(rng)).replace("{who}", who)


def en_task_slots(rng: random.Random) -> Slots:
    """A task as the user says it and as the assistant says it."""
    if rng.random() < 0.6:
        return s.en_task(rng)
    task = en_task(rng)
    return {"task": task, "task_you": task}


_EN_GOODS = words(
    "eggs|beans|onions|carrots|lettuce|bananas|oranges|lemons|grapes|beef|pork|sausages|noodles|cereal|jam|vinegar|pepper|cookies|ice cream|wine|beer|napkins|detergent|sponges|candles|batteries|bacon|mushrooms|spinach|nuts"
)


def en_goods(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.5:
        return rng.choice(_EN_GOODS)
    if style < 0.75:
        return f"{rng.choice(words('fresh frozen green dark sweet cold organic brown'))} {rng.choice(_EN_GOODS)}"
    return new_word(rng)
