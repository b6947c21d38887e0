"""Finished applications on the SDK, and short examples.

Each runs with one command beside `miao up`:

    python -m miao_client.examples.assistant "帮我设置明天的早晨7点提醒"
    python -m miao_client.examples.desk "Why does my phone have no signal?"
    python -m miao_client.examples.continuation "你好，这是我的第一篇博客。"
    python -m miao_client.examples.classification "The kettle is great!" positive negative
    python -m miao_client.examples.translation --to English "你好"
"""
