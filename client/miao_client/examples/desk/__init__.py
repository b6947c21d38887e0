"""A customer-service desk: streamed replies, a memory, and a person where the model is unsure.

For each message the model first says, as typed JSON, what it is about and whether a person
must take over; how likely that answer is tells whether it knows. Then it replies, and how
likely its own words are tells whether it was sure of them.
"""

from miao_client.examples.desk.desk import Answer, Desk, Handover, Policy, Reason
from miao_client.examples.desk.routing import Route, Routing

__all__ = ["Answer", "Desk", "Handover", "Policy", "Reason", "Route", "Routing"]
