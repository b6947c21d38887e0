# ruff: noqa: E501  (lists of words read best on one line)
"""Values that several intents share: clocks, days, people, places, tasks, things.

Each list times each other list is far more than a model of this size can learn by
heart, so it has to learn to copy.
"""

import random
from collections.abc import Callable, Sequence

from training.grammar import Slots, words

_ZH_DIGITS = "零一二三四五六七八九十"
_EN_NUMBERS = words("zero one two three four five six seven eight nine ten eleven twelve")

ZH_DAYS = words(
    "今天 明天 后天 大后天 周一 周二 周三 周四 周五 周六 周日 星期一 星期二 星期三 星期四 星期五 星期六 星期天 礼拜三 礼拜五 下周一 下周二 下周三 下周四 下周五 这周六 这周日 本周五 每天 每周一 每周五 工作日 周末 明早 下个月1号"
)
EN_WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
EN_MONTHS = words(
    "January February March April May June July August September October November December"
)

# (names of the part of the day, its first and last hour on a 24-hour clock)
_ZH_PARTS = (
    (("早晨", "早上", "上午", "清晨"), 5, 11),
    (("中午",), 12, 12),
    (("下午",), 13, 18),
    (("晚上", "晚上", "夜里"), 19, 23),
    (("傍晚",), 17, 19),
    (("凌晨",), 1, 5),
)


def zh_number(value: int) -> str:
    """Chinese numeral of 0 to 99."""
    if value <= 10:
        return _ZH_DIGITS[value]
    tens, ones = divmod(value, 10)
    return ("" if tens == 1 else _ZH_DIGITS[tens]) + "十" + (_ZH_DIGITS[ones] if ones else "")


def _minute(rng: random.Random) -> int:
    return rng.choice((0, 0, 0, 0, 30, 30, 15, 45, rng.randrange(5, 60, 5), rng.randrange(1, 60)))


def _zh_clock(rng: random.Random, hour: int, minute: int) -> str:
    style = rng.random()
    if style < 0.12:
        return f"{hour}:{minute:02d}"
    number = zh_number if style < 0.35 else str
    said = "两" if number is zh_number and hour == 2 else number(hour)
    if minute == 0:
        return said + rng.choice(("点", "点", "点", "点钟", "点整"))
    if minute == 30:
        return said + "点半"
    if minute == 15 and rng.random() < 0.4:
        return said + "点一刻"
    return f"{said}点{number(minute)}" + rng.choice(("", "分"))


def zh_day(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return f"{rng.randint(1, 12)}月{rng.randint(1, 28)}" + rng.choice("日号")
    return rng.choice(ZH_DAYS)


def zh_when(rng: random.Random) -> Slots:
    """A time: ``when_u`` as the user says it, ``when`` as we repeat it, and its typed parts."""
    names, first, last = rng.choice(_ZH_PARTS[:1] * 3 + _ZH_PARTS + _ZH_PARTS[2:4] * 2)
    hour, minute = rng.randint(first, last), _minute(rng)
    part = rng.choice(names)
    clock = _zh_clock(rng, hour if hour <= 12 else hour - 12, minute)
    if clock[0].isdigit() and rng.random() < 0.12:  # the 24-hour clock needs no part of the day
        part, clock = "", f"{hour}点" + (f"{minute}分" if minute else "")
    day = "" if rng.random() < 0.2 else zh_day(rng)
    if day == "明早":
        day, part, hour = "明天", "早上", rng.randint(5, 10)
        clock = _zh_clock(rng, hour, minute)
        return _zh_when("明早" + clock, "明早" + clock, day, hour, minute, clock, "早上")
    joint = "的" if day and part and rng.random() < 0.2 else ""
    return _zh_when(day + joint + part + clock, day + part + clock, day, hour, minute, clock, part)


def _zh_when(
    said: str, when: str, day: str, hour: int, minute: int, clock: str, part: str
) -> Slots:
    return {
        "when_u": said,
        "when": when,
        "day": day,
        "time": f"{hour:02d}:{minute:02d}",
        "clock": part + clock,
    }


def zh_clock(rng: random.Random) -> Slots:
    """Another time of day, for a change of plan."""
    when = zh_when(rng)
    return {"clock2": when["clock"]}


def en_clock(rng: random.Random, hour: int, minute: int) -> tuple[str, bool]:
    """The time of day in words, and whether it says by itself morning or evening."""
    short = hour % 12 or 12
    half = "am" if hour < 12 else "pm"
    style = rng.random()
    if style < 0.34:
        half = rng.choice((f" {half}", f" {half}", half, f" {half[0]}.m."))
        return (f"{short}:{minute:02d}{half}" if minute else f"{short}{half}"), True
    if style < 0.40:
        return f"{hour}:{minute:02d}", True
    number = str(short) if style < 0.80 else _EN_NUMBERS[short]
    if minute == 0:
        return number + rng.choice(("", "", "", " o'clock")), False
    if minute == 30 and rng.random() < 0.5:
        return f"half past {number}", False
    if minute == 15 and rng.random() < 0.5:
        return f"quarter past {number}", False
    return f"{short}:{minute:02d}", False


def en_date(rng: random.Random) -> tuple[str, str]:
    """A day as (with its preposition, bare)."""
    style = rng.random()
    if style < 0.35:
        return ("tomorrow",) * 2
    if style < 0.45:
        return ("today",) * 2
    if style < 0.52:
        return (rng.choice(("the day after tomorrow", "every day", "every weekday")),) * 2
    if style < 0.70:
        day = rng.choice(EN_WEEKDAYS)
        return f"on {day}", day
    if style < 0.88:
        return (f"{rng.choice(('next', 'this', 'every'))} {rng.choice(EN_WEEKDAYS)}",) * 2
    date = f"{rng.choice(EN_MONTHS)} {rng.randint(1, 28)}"
    return f"on {date}", date


def en_when(rng: random.Random) -> Slots:
    """A time: ``when`` follows "for", ``at_when`` stands alone; and its typed parts."""
    hour, minute = rng.choice((rng.randint(5, 11), rng.randint(5, 22))), _minute(rng)
    clock, clear = en_clock(rng, hour, minute)
    part = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    if hour >= 20 and rng.random() < 0.4:
        part = "night"
    with_preposition, day = en_date(rng)
    typed = {"time": f"{hour:02d}:{minute:02d}", "day": day}
    if rng.random() < 0.15:
        typed["day"] = ""
        spoken = (
            clock if clear else f"{clock} " + ("at night" if part == "night" else f"in the {part}")
        )
        return {**typed, "when": spoken, "at_when": f"at {spoken}", "clock": spoken}
    if clear:
        spoken = clock
    elif day in ("tomorrow", *EN_WEEKDAYS) or day.startswith(("this", "next", "every S")):
        with_preposition, day, spoken = f"{with_preposition} {part}", f"{day} {part}", clock
        if with_preposition.startswith("today"):
            with_preposition = day = f"this {part}"
    elif part in ("evening", "night") and day == "today":
        with_preposition = day = "tonight"
        typed["day"] = "tonight"
        spoken = clock
    else:
        spoken = f"{clock} " + ("at night" if part == "night" else f"in the {part}")
    if rng.random() < 0.6:
        when = f"{spoken} {with_preposition}"
        return {**typed, "when": when, "at_when": f"at {when}", "clock": spoken}
    return {
        **typed,
        "when": f"{day} at {spoken}",
        "at_when": f"{with_preposition} at {spoken}",
        "clock": spoken,
    }


def en_clock2(rng: random.Random) -> Slots:
    hour, minute = rng.randint(5, 22), _minute(rng)
    clock, _ = en_clock(rng, hour, minute)
    return {"clock2": clock}


def zh_duration(rng: random.Random) -> Slots:
    """A length of time, as said and in seconds."""
    style = rng.random()
    if style < 0.65:
        value = rng.choice((rng.randint(1, 60), rng.choice((5, 10, 15, 20, 25, 30, 45))))
        number = zh_number(value) if rng.random() < 0.3 else str(value)
        number = "两" if number == "二" else number
        return {"duration": f"{number}分钟", "seconds": str(value * 60)}
    if style < 0.85:
        value = rng.randint(1, 12)
        number = zh_number(value) if rng.random() < 0.4 else str(value)
        number = "两" if number == "二" else number
        return {"duration": f"{number}[个]小时".replace("[个]", "个"), "seconds": str(value * 3600)}
    value = rng.randint(5, 90)
    return {"duration": f"{value}秒", "seconds": str(value)}


def en_duration(rng: random.Random) -> Slots:
    style = rng.random()
    unit, scale, last = (
        ("minute", 60, 60)
        if style < 0.65
        else ("hour", 3600, 12)
        if style < 0.85
        else ("second", 1, 90)
    )
    value = rng.choice((rng.randint(1, last), rng.choice((5, 10, 12))))
    said = _EN_NUMBERS[value] if value <= 12 and rng.random() < 0.35 else str(value)
    plural = "" if value == 1 else "s"
    return {
        "duration": f"{said} {unit}{plural}",
        "duration_adj": f"{said}-{unit}",
        "seconds": str(value * scale),
    }


_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉红文辉建国春梅海燕雪飞宇浩然子轩梦琪欣怡"
    "雨晨思远佳慧一诺天俊晓东志鹏家豪若曦安宁可心嘉诚博文"
)
_ZH_RELATIONS = words(
    "妈妈 爸爸 奶奶 爷爷 外婆 外公 老婆 老公 姐姐 哥哥 妹妹 弟弟 姑姑 舅舅 叔叔 阿姨 房东 老板 同事 班主任 邻居 表哥 表妹 小王 小李 小张 小陈 小刘 老王 老李 老赵 王老师 李老师 陈医生 张经理 刘总 快递员 物业 女儿 儿子"
)
_EN_FIRST = words(
    "Anna Ben Carlos Diana Emma Felix Grace Henry Iris Jack Kate Leo Maria Nina Oscar Paul Quinn Rosa Sam Tina Uma Victor Wendy Yusuf Zoe Alice Bob Charlie David Ella Frank Georgia Hannah Ivan Julia Kevin Laura Mike Nora Olivia Peter Rachel Sarah Tom Vera William Lucas Mia Noah Sophie Daniel Elena Amir Priya Ravi Mei Ling Hiro Yuki Omar Fatima Lars Ingrid Pablo Chloe"
)
_SYLLABLES = words("ka lo mi ra ten sha bel dor vi na sol mar ti gu pen ros el an ke zu")


def zh_person(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(_ZH_RELATIONS)
    given = rng.choice(_GIVEN) + (rng.choice(_GIVEN) if rng.random() < 0.5 else "")
    return rng.choice(_SURNAMES) + given


def rare_name(rng: random.Random) -> str:
    """A name that nobody has: only copying can repeat it."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def en_person(rng: random.Random) -> Slots:
    """``who`` as the user says it, ``whom`` as the assistant says it."""
    style = rng.random()
    if style < 0.2:
        relative = rng.choice(
            words(
                "mother father sister brother wife husband boss landlord neighbor doctor teacher dentist son daughter grandma grandpa uncle aunt manager roommate"
            )
        )
        return {"who": f"my {relative}", "whom": f"your {relative}"}
    if style < 0.35:
        name = rng.choice(("Mom", "Dad", "Grandma", "Grandpa", "Aunt May", "Uncle Joe"))
    elif style < 0.45:
        name = f"{rng.choice(('Dr.', 'Mr.', 'Mrs.', 'Ms.'))} {rng.choice(_EN_FIRST)}"
    elif style < 0.6:
        name = rare_name(rng)
    else:
        name = rng.choice(_EN_FIRST)
    return {"who": name, "whom": name}


ZH_CITIES = words(
    "北京 上海 广州 深圳 杭州 南京 成都 重庆 武汉 西安 苏州 天津 长沙 青岛 大连 厦门 昆明 哈尔滨 沈阳 济南 郑州 合肥 福州 南昌 贵阳 南宁 海口 三亚 拉萨 兰州 银川 西宁 太原 宁波 无锡 珠海 桂林 丽江 洛阳 扬州 香港 澳门 台北 东京 巴黎 伦敦 纽约 柏林 罗马 悉尼 首尔 曼谷 新加坡 莫斯科 温州 绍兴 烟台 威海 泉州"
)
EN_CITIES = words(
    "Paris London Berlin Madrid Rome Vienna Prague Lisbon Dublin Oslo Stockholm Helsinki Warsaw Athens Zurich Geneva Brussels Amsterdam Copenhagen Budapest Boston Chicago Seattle Denver Miami Dallas Houston Toronto Montreal Vancouver Sydney Melbourne Tokyo Kyoto Seoul Beijing Shanghai Singapore Bangkok Delhi Mumbai Dubai Cairo Nairobi Lagos Lima Bogota Munich Hamburg Milan Venice Florence Barcelona Porto Edinburgh Glasgow Manchester Leeds"
)
EN_CITIES += words("New York|San Francisco|Los Angeles|Hong Kong|Cape Town|Rio")

_ZH_VERBS = words("买 取 还 寄 带 找 订 洗 准备 检查 整理 打印")
_ZH_GOODS = words(
    "牛奶 鸡蛋 面包 水果 蔬菜 咖啡 茶叶 机票 车票 电影票 书 快递 钥匙 雨伞 衣服 药 礼物 蛋糕 花 合同 报告 资料 护照 身份证 电池 充电器 作业 行李 猫粮 狗粮 大米 纸巾"
)
_ZH_TASKS = words(
    "开会 吃药 浇花 遛狗 喂猫 倒垃圾 交水电费 交房租 交电话费 去跑步 去健身房 去医院 去机场 去接孩子 看牙医 起床 睡觉 喝水 休息一下 写周报 交作业 练钢琴 做饭 吃早饭 打扫房间 换床单 锻炼身体 背单词 上网课 参加面试 给手机充电 关煤气 收衣服 发邮件 还信用卡 做瑜伽 看球赛 赶火车 打疫苗 复诊 洗车 缴税"
)
_EN_TASKS = [
    "take my medicine|take your medicine",
    "water the plants",
    "walk the dog",
    "feed the cat",
    "pay the rent",
    "pay the electricity bill",
    "take out the trash",
    "go for a run",
    "go to the gym",
    "pick up the kids",
    "see the dentist",
    "drink some water",
    "take a break",
    "write the report",
    "send the email",
    "finish the homework",
    "practice the piano",
    "cook dinner",
    "clean the kitchen",
    "catch the train",
    "charge my phone|charge your phone",
    "do the laundry",
    "study Chinese",
    "join the meeting",
    "prepare for the interview",
    "check the oven",
    "go to bed",
    "wake up",
    "back up my files|back up your files",
    "renew my passport|renew your passport",
    "do yoga",
    "stretch",
    "read a book",
    "wash the car",
    "return the library books",
    "turn off the stove",
    "leave for the airport",
    "call a taxi",
    "buy a birthday present",
    "sign the contract",
]
_EN_VERBS = words("buy|get|order|bring|pick up|find|pack|return|prepare|check|mail")
_EN_GOODS = words(
    "milk|eggs|bread|coffee|tea|fruit|vegetables|rice|the tickets|the keys|an umbrella|a cake|some flowers|the parcel|the documents|the passport|new batteries|cat food|dog food|cheese|tomatoes|stamps|the suit|a gift|light bulbs|soap|toothpaste|the slides|the camera"
)


def zh_task(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.45:
        return rng.choice(_ZH_TASKS)
    if style < 0.75:
        return rng.choice(_ZH_VERBS) + rng.choice(_ZH_GOODS)
    return rng.choice(("给{0}打电话", "给{0}发消息", "去接{0}", "和{0}见面", "和{0}吃饭")).format(
        zh_person(rng)
    )


def en_task(rng: random.Random) -> Slots:
    """``task`` as the user says it, ``task_you`` as the assistant says it."""
    style = rng.random()
    if style < 0.45:
        said, _, heard = rng.choice(_EN_TASKS).partition("|")
        return {"task": said, "task_you": heard or said}
    if style < 0.75:
        said = f"{rng.choice(_EN_VERBS)} {rng.choice(_EN_GOODS)}"
        return {"task": said, "task_you": said}
    person = en_person(rng)
    form = rng.choice(
        ("call {}", "text {}", "meet {}", "email {}", "have lunch with {}", "visit {}")
    )
    return {"task": form.format(person["who"]), "task_you": form.format(person["whom"])}


_EN_EVENTS = words(
    "team meeting|dentist appointment|doctor's appointment|job interview|piano lesson|yoga class|flight|conference call|team call|birthday party|parent meeting|football match|exam|concert|dinner|lunch|video call|haircut|English class|webinar|wedding|deadline|presentation|workshop"
)


def en_event(rng: random.Random) -> Slots:
    """``event_a`` introduces it, ``event`` is the user's word, ``event_you`` ours."""
    name = rng.choice(_EN_EVENTS)
    said, heard = rng.choice((("the", "the"), ("my", "your")))
    return {"event_a": f"a {name}", "event": f"{said} {name}", "event_you": f"{heard} {name}"}


ZH_PRODUCTS = words(
    "耳机 手机壳 充电宝 键盘 鼠标 显示器 台灯 水壶 电饭煲 吹风机 运动鞋 外套 连衣裙 背包 行李箱 手表 雨伞 书架 椅子 桌子 床垫 枕头 毛衣 牛仔裤 咖啡机 空气炸锅 扫地机器人 音箱 相机 平板电脑 路由器 儿童玩具 自行车 帐篷 帽子 围巾 眼镜 剃须刀 电动牙刷 净水器 加湿器 风扇 锅 杯子 窗帘 地毯 拼图 吉他"
)
EN_PRODUCTS = words(
    "headset|phone case|power bank|keyboard|mouse|monitor|desk lamp|kettle|rice cooker|hair dryer|pair of shoes|jacket|dress|backpack|suitcase|watch|umbrella|bookshelf|chair|table|mattress|pillow|sweater|shirt|coffee machine|air fryer|robot vacuum|speaker|camera|tablet|router|toy train|bicycle|tent|hat|scarf|pair of glasses|shaver|toothbrush|water filter|humidifier|fan|frying pan|mug|blanket|rug|puzzle|guitar|blender|toaster"
)

ZH_PHONES = words(
    "手机 手机 手机 手机 苹果手机 安卓手机 华为手机 小米手机 新手机 旧手机 备用机 平板 平板电脑 智能手表 老人机 电话 对讲机 随身WiFi 车载电话 SIM卡"
)
EN_PHONES = words(
    "phone|phone|phone|phone|cell phone|mobile phone|smartphone|iPhone|Android phone|new phone|old phone|work phone|tablet|iPad|smartwatch|second phone|mobile|SIM card|handset|hotspot"
)
ZH_COMPUTERS = words(
    "手机 电脑 笔记本电脑 平板 台式机 电视 游戏机 路由器 宽带 家里的网 无线网 打印机 投影仪 智能音箱 摄像头"
)
EN_COMPUTERS = words(
    "phone|computer|laptop|tablet|desktop|TV|game console|router|broadband|home network|Wi-Fi|printer|projector|smart speaker|camera"
)
ZH_GADGETS = words(
    "手机 苹果手机 平板 笔记本电脑 电脑 手表 耳机 相机 充电宝 游戏机 电子书 智能手表 蓝牙音箱 电动牙刷 手环"
)
ZH_SCREENS = words(
    "手机 手机 苹果手机 平板 平板电脑 笔记本电脑 电脑 手表 智能手表 相机 游戏机 电子书 电视 显示器"
)
EN_SCREENS = words(
    "phone phone iPhone tablet laptop computer watch smartwatch camera e-reader TV monitor iPad"
)
EN_GADGETS = words(
    "phone|iPhone|tablet|laptop|computer|watch|headset|camera|power bank|game console|e-reader|smartwatch|speaker|toothbrush|fitness band"
)


def order_number(rng: random.Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(rng.choice((4, 5, 6, 8))))


_ZH_ROOMS = words("客厅 卧室 厨房 书房 阳台 主卧 次卧 浴室 餐厅 走廊 车库 儿童房 办公室")
_ZH_DEVICES = words(
    "灯 灯 空调 电视 风扇 窗帘 加湿器 音响 暖气 空气净化器 台灯 投影仪 插座 热水器 地暖 落地灯 摄像头"
)
_EN_ROOMS = words(
    "living room|bedroom|kitchen|study|balcony|bathroom|dining room|hallway|garage|office|nursery|guest room|basement|garden"
)
_EN_DEVICES = words(
    "lights|light|lamp|fan|heater|air conditioner|TV|speaker|humidifier|air purifier|projector|ceiling light|camera|radio|oven"
)


def zh_device(rng: random.Random) -> str:
    device = rng.choice(_ZH_DEVICES)
    style = rng.random()
    if style < 0.3 and device != "灯":
        return device
    return rng.choice(_ZH_ROOMS) + rng.choice(("", "的", "里的")) + device


def en_device(rng: random.Random) -> Slots:
    """A device and the form of "be" that goes with it."""
    device = rng.choice(_EN_DEVICES)
    verb = "are" if device.endswith("lights") else "is"
    style = rng.random()
    if style < 0.3:
        return {"device": f"the {device}", "is": verb}
    if style < 0.75:
        return {"device": f"the {rng.choice(_EN_ROOMS)} {device}", "is": verb}
    return {"device": f"the {device} in the {rng.choice(_EN_ROOMS)}", "is": verb}


def one_of(
    *samplers: "Callable[[random.Random], str] | Sequence[str]",
) -> "Callable[[random.Random], str]":
    """A sampler that draws from one of several samplers or lists."""

    def sample(rng: random.Random) -> str:
        source = rng.choice(samplers)
        return source(rng) if callable(source) else rng.choice(source)

    return sample


def company(rng: random.Random) -> str:
    return rng.choice((rare_name(rng), "Northwind", "Bluebird", "Sunny Home", "Lantern", "Maple"))


def zh_company(rng: random.Random) -> str:
    return "".join(rng.sample("云星海川蓝天明远新安乐家佳宝和泰长青", 2)) + rng.choice(
        ("公司", "商城", "通信", "科技", "电器", "旅行社", "书店", "银行")
    )
