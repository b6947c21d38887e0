# ruff: noqa: E501  (lists of words read best on one line)
"""Values that several intents share: people, places, tasks, things.

Each list times each other list is far more than a model of this size can learn by
heart, so it has to learn to copy.
"""

import random
from collections.abc import Callable, Sequence

from training.corpus.novelty import new_hanzi, new_word
from training.grammar import Slots, words

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉红文辉建国春梅海燕雪飞宇浩然子轩梦琪欣怡"
    "雨晨思远佳慧一诺天俊晓东志鹏家豪若曦安宁可心嘉诚博文"
)
_ZH_RELATIONS = words(
    "妈妈 爸爸 奶奶 爷爷 外婆 外公 老婆 老公 姐姐 哥哥 妹妹 弟弟 姑姑 舅舅 叔叔 阿姨 房东 老板 同事 班主任 邻居 表哥 表妹 小王 小李 小张 小陈 小刘 老王 老李 老赵 王老师 李老师 陈医生 张经理 刘总 快递员 物业 女儿 儿子"
)
EN_FIRST = words(
    "Anna Ben Carlos Diana Emma Felix Grace Henry Iris Jack Kate Leo Maria Nina Oscar Paul Quinn Rosa Sam Tina Uma Victor Wendy Yusuf Zoe Alice Bob Charlie David Ella Frank Georgia Hannah Ivan Julia Kevin Laura Mike Nora Olivia Peter Rachel Sarah Tom Vera William Lucas Mia Noah Sophie Daniel Elena Amir Priya Ravi Mei Ling Hiro Yuki Omar Fatima Lars Ingrid Pablo Chloe"
)
_RARE_SURNAMES = words(
    "司马 上官 慕容 东方 南宫 夏侯 皇甫 端木 秦 孟 姚 方 石 龙 史 顾 侯 邵 万 钱 汤 尹 黎 易 常 武 乔 贺 赖 龚 文"
)
_TITLES = words("老师 医生 经理 主任 师傅 教练 律师 阿姨 叔叔 同学 哥 姐 总 奶奶 大爷")


def zh_person(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.3:
        return rng.choice(_ZH_RELATIONS)
    surname = rng.choice(_SURNAMES) if rng.random() < 0.75 else rng.choice(_RARE_SURNAMES)
    if style < 0.42:
        return surname + rng.choice(_TITLES)
    if style < 0.5:
        return rng.choice("小阿老大") + new_hanzi(rng)
    if style < 0.72:
        return surname + new_hanzi(rng) + (new_hanzi(rng) if rng.random() < 0.7 else "")
    given = rng.choice(_GIVEN) + (rng.choice(_GIVEN) if rng.random() < 0.5 else "")
    return surname + given


def rare_name(rng: random.Random) -> str:
    """A name that nobody has: only copying can repeat it."""
    return new_word(rng).capitalize()


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
        name = f"{rng.choice(('Dr.', 'Mr.', 'Mrs.', 'Ms.'))} {rng.choice(EN_FIRST)}"
    elif style < 0.7:
        name = rare_name(rng)
    elif style < 0.78:
        name = f"{rng.choice(EN_FIRST)} {rare_name(rng)}"
    else:
        name = rng.choice(EN_FIRST)
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
    "team meeting|dentist appointment|doctor's appointment|job interview|piano lesson|yoga class|flight|conference call|team call|birthday party|parent meeting|football match|exam|concert|dinner|lunch|video call|haircut|English class|webinar|wedding|deadline|presentation|workshop|checkup|driving test|choir practice|book club|interview|swimming class|movie night|game night|school play|tax appointment|board meeting|art class|date|picnic|training|lecture|reunion|house viewing|massage"
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


_ZH_ROOMS = words(
    "客厅 卧室 厨房 书房 阳台 主卧 次卧 浴室 餐厅 走廊 车库 儿童房 办公室 门厅 楼梯 地下室 花园 衣帽间 会议室 洗手间 阁楼"
)
_ZH_DEVICES = words(
    "灯 灯 空调 电视 风扇 窗帘 加湿器 音响 暖气 空气净化器 台灯 投影仪 插座 热水器 地暖 落地灯 摄像头 吊灯 壁灯 夜灯 吸尘器 洗碗机 洗衣机 微波炉 烤箱 鱼缸灯 电热毯 门锁 音箱 咖啡机 除湿机 排气扇"
)
_EN_ROOMS = words(
    "living room|bedroom|kitchen|study|balcony|bathroom|dining room|hallway|garage|office|nursery|guest room|basement|garden|attic|closet|porch|laundry room|meeting room|entrance|pantry|workshop|cellar|staircase"
)
_EN_DEVICES = words(
    "lights|light|lamp|fan|heater|air conditioner|TV|speaker|humidifier|air purifier|projector|ceiling light|camera|radio|oven|floor lamp|night light|dishwasher|washing machine|kettle|vacuum|blinds|sprinkler|electric blanket|coffee maker|dehumidifier|desk light|sound system|screen|freezer|alarm system"
)


def zh_device(rng: random.Random) -> str:
    device = rng.choice(_ZH_DEVICES)
    style = rng.random()
    if style < 0.3 and device != "灯":
        return device
    room = rng.choice(_ZH_ROOMS) if rng.random() < 0.9 else new_hanzi(rng) + "室"
    return room + rng.choice(("", "的", "里的")) + device


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
