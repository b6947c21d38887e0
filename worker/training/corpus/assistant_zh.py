# ruff: noqa: E501  (templates read best on one line)
"""The assistant whose commands become actions, in Chinese."""

import random

from training.corpus import clocks, things
from training.corpus import slots as s
from training.corpus.novelty import new_hanzi
from training.grammar import Intent, Slots, words

_PLEASE = "[帮我|帮我|请帮我|请|麻烦|麻烦你|给我|能不能帮我|可以帮我|能帮我|替我|我想|我要|你好，帮我|小助手，|]"
_OK = "[好的，|好的，|好，|没问题，|收到，|]"


def _song(rng: random.Random) -> str:
    scenes = words(
        "春天 月光 远方 大海 星空 夏天 故乡 晚风 青春 时光 梦想 雨后 小城 花开 回家 蓝天 秋日 旅人 微笑 河流"
    )
    if rng.random() < 0.3:
        return "".join(new_hanzi(rng) for _ in range(rng.randint(2, 4)))
    return rng.choice(scenes) + rng.choice(("", "之歌", "的路", "里的你", "之夜", "的信", "与海"))


_MUSIC = s.one_of(
    words(
        "音乐 轻音乐 古典音乐 爵士乐 摇滚 民谣 流行歌曲 钢琴曲 儿歌 老歌 粤语歌 英文歌 安静的音乐 欢快的歌 睡眠音乐 跑步的歌"
    ),
    lambda r: f"《{_song(r)}》",
    lambda r: f"{s.zh_person(r)}的歌",
)
_MESSAGES = s.one_of(
    words(
        "我晚点到 我到家了 今晚不回家吃饭 我在路上 生日快乐 记得带伞 会议改期了 谢谢你 我想你了 明天见 我马上到 路上堵车 早点休息 周末一起吃饭 钥匙在桌上 文件已经发了 注意安全 我请你喝咖啡"
    ),
    lambda r: f"我{r.choice(['五', '十', '十五', '二十', '三十'])}分钟后到",
    lambda r: f"记得{s.zh_task(r)}",
    things.zh_message,
    things.zh_message,
)
_LINE = "苹果 apple;猫 cat;狗 dog;水 water;春天 spring;谢谢 thank you;你好 hello;再见 goodbye;早上好 good morning;晚安 good night;书 book;学校 school;老师 teacher;朋友 friend;家 home;妈妈 mother;爸爸 father;爱 love;太阳 sun;月亮 moon;星星 star;花 flower;树 tree;海 sea;山 mountain;河 river;鱼 fish;鸟 bird;米饭 rice;面包 bread;牛奶 milk;咖啡 coffee;茶 tea;火车 train;飞机 plane;汽车 car;电脑 computer;手机 mobile phone;城市 city;国家 country;时间 time;今天 today;明天 tomorrow;昨天 yesterday;快乐 happy;雨 rain;雪 snow;风 wind;红色 red;纸 paper;桥 bridge;钱 money;门 door;窗户 window;桌子 table;椅子 chair;床 bed;票 ticket;钥匙 key;鞋 shoe;手 hand;眼睛 eye;头发 hair;名字 name;工作 work;问题 question;答案 answer;故事 story;游戏 game;礼物 gift;早餐 breakfast;晚餐 dinner;苹果汁 apple juice;火 fire;石头 stone;岛 island;森林 forest;湖 lake;云 cloud;天空 sky;世界 world;黑色 black;白色 white;黄色 yellow;蓝色 blue;绿色 green;医生 doctor;医院 hospital;图书馆 library;音乐 music;生日快乐 happy birthday;对不起 sorry;秋天 autumn;夏天 summer;冬天 winter"
WORDS = [tuple(pair.split(" ", 1)) for pair in _LINE.split(";")]


def _word(rng: random.Random) -> Slots:
    zh, en = rng.choice(WORDS)
    return {"zh": zh, "en": en}


def _typed(action: str, **fields: str) -> "object":
    """An action: fixed text, or the name of the slot that a field takes (leading ``$``)."""

    def build(slots: Slots) -> dict[str, object]:
        values: dict[str, object] = {"action": action}
        for name, source in fields.items():
            value: object = slots[source[1:]] if source.startswith("$") else source
            if name == "level":
                value = int(str(value))
            if value != "":
                values[name] = value
        return values

    return build


def _intent(
    name: str, user: list[str], reply: list[str], weight: float = 1.0, **slots: object
) -> Intent:
    followups = slots.pop("followups", ())
    action = slots.pop("action", None)
    return Intent(name, "zh", user, reply, slots, followups, action, weight)  # type: ignore[arg-type]


INTENTS = [
    _intent(
        "reminder",
        [
            _PLEASE
            + "[设置|设|设个|设一个|设置一个|定|定一个|创建|添加|加一个|弄个|安排]{when_u}[的|][提醒|提醒|提醒|提醒事项|备忘]"
            + "[。|。|，谢谢。|吗？|吧。|好吗？|]",
            "[请给我|劳驾|您好，请|我需要|请帮忙|你好，][定一个|设一个|来一个|设置]{when_u}的提醒"
            + "[。|吧。|，好吗？|]",
            _PLEASE + "[在|把]{when_u}[设置|设|加|定][一个|个][提醒|提醒事项]" + "[。|]",
            "{when_u}[帮我设个提醒|给我设个提醒|给我一个提醒|设个提醒|提醒一下我|记得提醒我|要提醒我|提醒我一下]"
            + "[。|，好吗？|，谢谢。|]",
            "[设置提醒|提醒|新建提醒|添加提醒][：|，|]{when_u}" + "[。|]",
        ],
        [
            _OK
            + "[已为您设置|已经为您设好|我已设置|已帮您设置]{when}的提醒。[到时候我会准时提醒您。|到时我会提醒您。|需要我提醒您做什么吗？|祝您一切顺利。|]",
            _OK
            + "{when}的提醒[已经设好了|设置好了|已设置成功|已添加]。[到时候我会提醒您。|到时见！|请放心。|]",
        ],
        weight=3.0,
        when=clocks.zh_when,
        new=clocks.zh_clock,
        action=_typed("set_reminder", day="$day", time="$time"),
        followups=[
            (
                "[改成|改到|换成|还是改成|把它改到]{clock2}[吧|]。",
                "[好的，|没问题，]提醒已经改到{clock2}。",
            ),
            (
                "[取消|算了，取消|删掉|不用了，取消]这个提醒[吧|]。",
                "[好的，|没问题，]{when}的提醒已经取消。",
            ),
        ],
    ),
    _intent(
        "reminder",
        [
            "[请|麻烦|劳驾，|记得|帮我|我怕忘了，|别忘了|]{when_u}[提醒我|提醒我|的时候提醒我|喊我|喊我去|记得提醒我|叫我|记得提醒我|通知我]{task}"
            + "[。|。|，谢谢。|，好吗？|]",
            "[请|麻烦你|记得|能不能|帮我|你能][提醒我]{when_u}[要|去|]{task}" + "[吗？|。|。|]",
            _PLEASE + "[设置|设|设一个|定一个|加一个|创建]{when_u}{task}的提醒" + "[。|，谢谢。|]",
            "[我{when_u}要{task}，|{when_u}我得{task}，|{when_u}要{task}，][提醒我一下|记得提醒我|到时候提醒我|帮我设个提醒|别让我忘了]"
            + "[。|]",
        ],
        [
            _OK
            + "[我会在{when}提醒您{task}|{when}我会提醒您{task}|已设置提醒：{when}，{task}]。[请放心。|到时见！|]",
            _OK
            + "[提醒已经设好了：{when}{task}|已为您设置{when}{task}的提醒]。[到时候我会准时提醒您。|]",
        ],
        weight=3.0,
        when=clocks.zh_when,
        task=s.one_of(s.zh_task, things.zh_task),
        new=clocks.zh_clock,
        action=_typed("set_reminder", day="$day", time="$time", text="$task"),
        followups=[
            (
                "[改成|改到|换成|还是改成]{clock2}[吧|]。",
                "[好的，|没问题，]我会在{clock2}提醒您{task}。",
            )
        ],
    ),
    _intent(
        "alarm",
        [
            _PLEASE
            + "[设|设置|定|设一个|定一个|设个|定个|上|订个|调一个]{when_u}的闹钟"
            + "[。|。|，谢谢。|吗？|]",
            "[{when_u}叫我起床|{when_u}叫醒我|{when_u}把我叫醒|我要{when_u}起床，设个闹钟|闹钟定在{when_u}|把闹钟设到{when_u}|请在{when_u}叫醒我|{when_u}的闹钟]"
            + "[。|，谢谢。|，别忘了。|]",
        ],
        [
            _OK
            + "[{when}的闹钟已经设好了|已为您设置{when}的闹钟|闹钟定在{when}]。[祝您好梦！|到时候我会叫您。|请早点休息。|]",
        ],
        weight=1.6,
        when=clocks.zh_when,
        new=clocks.zh_clock,
        action=_typed("set_alarm", day="$day", time="$time"),
        followups=[
            ("[改成|改到|换成|还是改成]{clock2}[吧|]。", "[好的，|没问题，]闹钟已经改到{clock2}。")
        ],
    ),
    _intent(
        "timer",
        [
            _PLEASE
            + "[设|设置|定|开始|来|设一个|定一个|开]{duration}的[倒计时|计时器|定时器|计时]"
            + "[。|，谢谢。|]",
            "[{duration}后提醒我|过{duration}叫我|开个{duration}的倒计时好吗|定时{duration}|{duration}以后叫我|倒计时{duration}|计时{duration}|{duration}后告诉我|等{duration}提醒我]"
            + "[。|，谢谢。|]",
        ],
        [
            _OK
            + "[{duration}的倒计时已经开始|计时器已设为{duration}|{duration}倒计时开始]。[时间到了我会提醒您。|时间一到我就叫您。|]"
        ],
        weight=1.3,
        duration=clocks.zh_duration,
        action=_typed("set_timer", duration="$duration"),
    ),
    _intent(
        "weather",
        [
            "[{city}{wday}|{wday}{city}|{city}|{city}{wday}的|请问{city}{wday}|帮我查一下{city}{wday}的][天气怎么样|天气如何|天气好吗|会下雨吗|会不会下雨|冷不冷|冷吗|热吗|多少度|气温多少|要带伞吗|会下雪吗|天气]"
            + "[？|]",
            "[看看|查一下|查询|告诉我|我想知道|播报]{city}{wday}的[天气|天气预报|气温]"
            + "[。|，谢谢。|]",
        ],
        [
            _OK
            + "我来看看{city}{wday}的天气。[这个演示模型没有实时天气，请查看天气应用|我现在连不上实时天气，建议您看一下天气预报]，[出门记得带把伞|也请注意增减衣物]。",
            "[您想知道|您问的是]{city}{wday}的天气。[我是演示模型，没有实时数据|抱歉，我没有实时的天气数据]，[请打开天气应用查看|请以天气预报为准]，[祝您有美好的一天|出门请注意安全]。",
        ],
        city=things.zh_city,
        wday=words("今天 明天 后天 周末 这周末 周六 下周 今晚 下午 周一 明天早上"),
        action=_typed("weather", place="$city", day="$wday"),
    ),
    _intent(
        "music",
        [
            _PLEASE
            + "[播放|放|放一首|放点|来一首|来点|听|播一下|播放一些]{music}"
            + "[。|吧。|，谢谢。|]",
            "[我想听|想听|我要听|来首|现在放|打开|我现在想听|我现在就想听|有没有]{music}"
            + "[。|吧。|，可以吗？|]",
        ],
        [
            _OK
            + "[正在为您播放{music}|这就为您播放{music}|为您播放{music}|马上播放{music}]。[希望您喜欢。|请欣赏！|祝您听得开心。|]"
        ],
        weight=1.2,
        music=_MUSIC,
        action=_typed("play_music", what="$music"),
        followups=[
            (
                "[声音大一点|大声一点|音量调大|声音小一点|小声点|下一首|换一首|暂停|别放了]。",
                "[好的。|好的，已经照办。|没问题，马上就好。]",
            )
        ],
    ),
    _intent(
        "call",
        [
            _PLEASE
            + "[给{who}打电话|打电话给{who}|打给{who}|给{who}打个电话|呼叫{who}|拨打{who}的电话|拨通{who}的电话|联系{who}]"
            + "[。|，谢谢。|吗？|]",
            "[呼一下|拨一下|打一下|接通]{who}的电话" + "[。|吧。|]",
            "[我要跟|我想和]{who}[通话|通电话|打电话|视频]" + "[。|]",
        ],
        [
            _OK
            + "[正在呼叫{who}|正在给{who}打电话|马上为您拨打{who}的电话|这就联系{who}]。[请稍等。|请稍候。|]"
        ],
        weight=1.2,
        who=s.one_of(s.zh_person),
        action=_typed("call", who="$who"),
    ),
    _intent(
        "message",
        [
            _PLEASE
            + "[给{who}发消息|给{who}发条短信|发消息给{who}|给{who}发微信|发短信给{who}|告诉{who}|跟{who}说|发个短信给{who}|捎个话给{who}|转告{who}|通知{who}][：|，|，说|说|]{message}"
            + "[。|]",
        ],
        [
            _OK + "[消息已经发给{who}|已经告诉{who}|已发送给{who}][：“{message}”。|：{message}。]",
            _OK + "我会给{who}发消息：“{message}”。[还要补充什么吗？|]",
        ],
        weight=1.4,
        who=s.one_of(s.zh_person),
        message=_MESSAGES,
        action=_typed("send_message", who="$who", text="$message"),
    ),
    _intent(
        "device_on",
        [
            _PLEASE + "[打开|开一下|开启|开|启动]{device}" + "[。|，谢谢。|吧。|吗？|]",
            "[太热了|有点冷|天黑了|有点热|屋里很暗|我回来了]，[请|帮我|]把{device}[打开|开起来|开一下]"
            + "[。|吧。|]",
            _PLEASE + "把{device}[打开|开一下|开开|开起来|启动]" + "[。|，谢谢。|吧。|吗？|]",
        ],
        [
            _OK
            + "[{device}已经打开|已为您打开{device}|{device}打开了|{device}已开启]。[还需要什么吗？|]"
        ],
        weight=1.3,
        device=s.zh_device,
        action=_typed("turn_on", device="$device"),
        followups=[("[再|现在]把它关[掉|上|了]吧。", "[好的，|没问题，]{device}已经关闭。")],
    ),
    _intent(
        "device_off",
        [
            _PLEASE + "[关闭|关掉|关上|关|关一下|停掉]{device}" + "[。|，谢谢。|吧。|吗？|]",
            "[太亮了|太吵了|我要睡了|我出门了|{device}太亮了|{device}太吵了]，[请|帮我|帮忙|]把{device}[关掉|关了|关上]"
            + "[。|吧。|]",
            _PLEASE + "把{device}[关掉|关了|关上|关闭|关一下]" + "[。|，谢谢。|吧。|吗？|]",
        ],
        [
            _OK
            + "[{device}已经关闭|已为您关闭{device}|{device}关掉了|{device}已关闭]。[还需要什么吗？|]"
        ],
        weight=1.3,
        device=s.zh_device,
        action=_typed("turn_off", device="$device"),
        followups=[("[再|现在]把它打开吧。", "[好的，|没问题，]{device}已经打开。")],
    ),
    _intent(
        "device_set",
        [
            _PLEASE
            + "把{device}[的温度|][调到|设为|设到|设成|调成|开到|弄到|升到|降到]{level}度"
            + "[。|，谢谢。|吧。|]",
            "{device}[调到|开到|设为]{level}度" + "[。|吧。|]",
        ],
        [_OK + "[{device}已调到{level}度|已把{device}设为{level}度]。[有需要请再告诉我。|]"],
        weight=0.7,
        device=lambda r: r.choice(
            (
                "空调",
                "客厅空调",
                "卧室的空调",
                "暖气",
                "热水器",
                "地暖",
                "冰箱",
                "烤箱",
                "书房的空调",
            )
        ),
        level=lambda r: str(r.randint(2, 60)),
        action=_typed("set_level", device="$device", level="$level"),
    ),
    _intent(
        "translate",
        [
            "[“{zh}”|{zh}][用英语怎么说|的英文是什么|英语怎么说|用英语怎么讲|这个词英语怎么讲|的英语是什么|翻译成英文|用英文怎么说]"
            + "[？|]",
            "[英语里|英文里|在英语中]“{zh}”[怎么说|怎么讲|这个词怎么说|是什么]" + "[？|]",
            _PLEASE + "[把“{zh}”翻译成英语|翻译{zh}|翻译一下{zh}|把{zh}译成英文]" + "[。|]",
            "[{en}是什么意思|“{en}”是什么意思|{en}用中文怎么说|{en}的中文是什么|把{en}翻译成中文]"
            + "[？|]",
        ],
        ["“{zh}”[的英语是|用英语说是|对应的英文是]“{en}”。"],
        pair=_word,
        action=_typed("translate", text="$zh", to="en"),
        weight=1.6,
    ),
    _intent(
        "calendar",
        [
            _PLEASE
            + "[把{task}加到{when_u}的日程|在日程里加上{when_u}{task}|安排{when_u}{task}|添加日程：{when_u}{task}|记一下，{when_u}{task}]"
            + "[。|，谢谢。|]",
            "[我的日历里加上|日程表加一项][：|，]{when_u}{task}" + "[。|]",
        ],
        [
            _OK
            + "[已把{when}{task}加入日程|日程已添加：{when}，{task}|{when}{task}已经记入日程]。[祝您顺利。|]"
        ],
        when=clocks.zh_when,
        task=s.one_of(s.zh_task, things.zh_task),
        action=_typed("add_event", day="$day", time="$time", text="$task"),
    ),
    _intent(
        "shopping",
        [
            _PLEASE
            + "[把{goods}加到购物清单|购物清单里加上{goods}|在清单上记下{goods}|购物单加{goods}]"
            + "[。|，谢谢。|]",
            "[我要买|记得买|清单加上]{goods}，[记到清单里|加到购物清单|帮我记一下]" + "[。|]",
        ],
        [
            _OK
            + "[{goods}已加入购物清单|已把{goods}加到购物清单|购物清单里已加上{goods}]。[还要买别的吗？|还需要什么？|]"
        ],
        goods=s.one_of(
            words(
                "牛奶 鸡蛋 面包 水果 蔬菜 咖啡 茶叶 大米 纸巾 洗发水 苹果 香蕉 西瓜 土豆 番茄 牛肉 鱼 酸奶 饼干 盐 酱油 面条 电池 灯泡 猫粮 狗粮 牙膏"
            ),
            things.zh_product,
            lambda r: new_hanzi(r) + new_hanzi(r),
        ),
        action=_typed("add_to_list", item="$goods"),
    ),
    _intent(
        "navigate",
        [
            _PLEASE
            + "[导航到{place}|带我去{place}|去{place}怎么走|查一下去{place}的路线|规划去{place}的路线]"
            + "[。|？|]",
            "[我要去|我想去|怎么去]{place}" + "[，请导航。|，怎么走？|？|。]",
        ],
        [
            _OK
            + "[正在为您规划去{place}的路线|开始导航到{place}|这就带您去{place}]。[请系好安全带。|路上注意安全。|祝您一路顺风。|]"
        ],
        place=s.one_of(
            things.zh_city,
            words(
                "机场 火车站 最近的医院 超市 公司 家 公园 学校 图书馆 加油站 银行 最近的咖啡店 动物园 博物馆 地铁站 电影院 药店 体育馆"
            ),
            lambda r: things.zh_city(r) + r.choice(["火车站", "机场", "博物馆", "图书馆", "大学"]),
        ),
        action=_typed("navigate", to="$place"),
    ),
]
