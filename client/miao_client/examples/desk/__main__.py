"""The customer-service desk at the terminal.

python -m miao_client.examples.desk                          # type as a customer
python -m miao_client.examples.desk "我的手机没有信号"          # or give the messages
python -m miao_client.examples.desk --transcript talk.jsonl < messages.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from miao_client.examples import terminal
from miao_client.examples.desk.desk import Desk, Handover
from miao_client.sync.client import Client

_HINT = "Write as a customer would. /back lets the model answer again, Ctrl-D ends."


def main() -> None:
    """Answer a customer until there are no more messages."""
    arguments = _arguments()
    with terminal.reporting(), Client(arguments.target, model=arguments.model) as client:
        desk = Desk(client, on_handover=_ticket)
        for said in terminal.messages(arguments.message, _HINT):
            if said == "/back":
                desk.take_back()
                continue
            terminal.write(desk.stream(said))
            answer = desk.last
            assert answer is not None
            entry = {
                "customer": said,
                "desk": answer.text,
                "topic": answer.topic,
                "route_probability": round(answer.route_probability, 4),
                "token_probability": round(answer.token_probability, 4),
                "handover": answer.handover.reason if answer.handover else None,
            }
            terminal.record(arguments.transcript, entry)


def _ticket(handover: Handover) -> None:
    print(f"\n  [to a person: {handover.reason}; topic {handover.topic}]", end="")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m miao_client.examples.desk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("message", nargs="*", help="messages; else typed or from standard input")
    parser.add_argument(
        "--target", help="address of the service; else MIAO_TARGET, localhost:50051"
    )
    parser.add_argument("--model", help="its name; else the only one served")
    parser.add_argument("--transcript", type=Path, help="append what was said, as JSON lines")
    return parser.parse_args()


if __name__ == "__main__":
    main()
