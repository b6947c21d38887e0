# ruff: noqa: E501  (lists of words read best on one line)
"""Words that exist nowhere else, so that nothing but copying can repeat them."""

import random

from training.grammar import words

_ONSETS = words(
    "b c d f g h j k l m n p r s t v w y z br ch cl cr dr fl fr gl gr kr ph pl pr sh sk sl sp st str th tr tw wh"
)
_VOWELS = words("a e i o u a e i o ai ea ee ie oo ou y au ei")
_CODAS = words("n r l s t m d k ck ll nd ng nt rd rk rn st th x sh")
_ENDINGS = words("a o y ie er en ina ella on us ton ley ford man berg ska rick bert line wood")

# Characters that names and places are made of.
_NAMING = "安邦保冰波彩灿昌畅晨成诚川翠达丹德迪冬栋朵恩帆方芬丰峰凤福富歌耕冠光广贵国果海涵翰航禾荷恒虹鸿湖虎花怀欢焕辉惠慧吉纪佳嘉建健江姣洁金津锦京晶静镜娟骏康科坤兰岚乐磊蕾黎力立丽莉良林琳玲凌柳龙露鹿路洛满曼茂玫梅美萌孟米苗妙敏鸣木牧南宁平萍璞齐奇琪启千强桥琴青清晴庆秋泉群然仁荣如瑞若森沙莎山珊善尚圣石世书舒淑树双水顺思松素泰棠桃天田甜庭婷童桐望威微维卫伟文雯武夕西希溪曦霞先贤香翔向小晓欣新星杏秀旭轩雪勋雅烟岩炎彦雁阳杨洋瑶叶依宜怡义艺亦益逸音银英盈影永勇友有宇羽雨语玉育元园远月悦云芸韵泽展哲真振芝知志智中舟竹卓子紫"


def new_word(rng: random.Random) -> str:
    """Two or three syllables, as an English reader could say them."""
    syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.5:
        syllables[-1] += rng.choice(_CODAS)
    word = "".join(syllables)
    return word + rng.choice(_ENDINGS) if len(syllables) == 1 or rng.random() < 0.4 else word


def new_hanzi(rng: random.Random) -> str:
    """A character as names have it."""
    return rng.choice(_NAMING)
