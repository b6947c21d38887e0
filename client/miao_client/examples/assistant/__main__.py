"""The assistant at the terminal.

python -m miao_client.examples.assistant                        # type commands
python -m miao_client.examples.assistant "明天早上7点提醒我开会"    # or give them
python -m miao_client.examples.assistant --json < commands.txt  # an action for each line
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from miao_client.examples import terminal
from miao_client.examples.assistant.agenda import Agenda, describe
from miao_client.examples.assistant.assistant import Assistant, Unclear, Understanding
from miao_client.examples.assistant.session import Session
from miao_client.examples.language import Language, language_of
from miao_client.sync.client import Client

_HINT = "Say what to do, as in 明天早上7点提醒我开会. /list shows the agenda, Ctrl-D ends."


def main() -> None:
    """Run commands until there are no more."""
    arguments = _arguments()
    with terminal.reporting(), Client(arguments.target, model=arguments.model) as client:
        assistant = Assistant(client)
        if arguments.json:
            for said in arguments.command or map(str.strip, sys.stdin):
                if said:
                    made = assistant.understand(said, arguments.now or datetime.now())
                    print(json.dumps(as_json(made), ensure_ascii=False), flush=True)
            return
        _talk(client, assistant, arguments)


def as_json(understanding: Understanding) -> dict[str, Any]:
    """What was understood: the action, or null and the question."""
    action, result = understanding.action, understanding.result
    return {
        "command": understanding.command,
        "action": action.as_json() if action else None,
        "question": result.question if isinstance(result, Unclear) else None,
        "probability": round(understanding.probability, 4),
        "fields_probability": round(understanding.fields_probability, 4),
    }


def _talk(client: Client, assistant: Assistant, arguments: argparse.Namespace) -> None:
    agenda = Agenda()
    session = Session(client, assistant, agenda)
    language: Language = "en"
    for said in terminal.messages(arguments.command, _HINT):
        if said == "/list":
            for entry in agenda.entries:
                print(f"  {describe(entry, language)}")
            continue
        language = language_of(said)
        reply = terminal.write(session.respond(said, arguments.now or datetime.now()))
        assert session.last is not None
        terminal.record(arguments.transcript, as_json(session.last) | {"reply": reply})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m miao_client.examples.assistant",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="*", help="commands; else typed or from standard input")
    parser.add_argument(
        "--target", help="address of the service; else MIAO_TARGET, localhost:50051"
    )
    parser.add_argument("--model", help="its name; else the only one served")
    parser.add_argument(
        "--now", type=datetime.fromisoformat, help="the time that commands count from"
    )
    parser.add_argument("--json", action="store_true", help="print actions and do nothing")
    parser.add_argument("--transcript", type=Path, help="append what was said, as JSON lines")
    return parser.parse_args()


if __name__ == "__main__":
    main()
