"""An assistant: a command in words becomes a typed action, or a question back.

The model says what kind of action a command is, and which of the days, times and words
that occur in it fill the action's fields. Code says what these mean on the calendar, and
whether all of it is sure enough to be done.
"""

from miao_client.examples.assistant.actions import Action, Repeat
from miao_client.examples.assistant.agenda import Agenda
from miao_client.examples.assistant.assistant import Assistant, Unclear, Understanding

__all__ = ["Action", "Agenda", "Assistant", "Repeat", "Unclear", "Understanding"]
