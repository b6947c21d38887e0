"""What is known of a caller once its credentials have been looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from miao_queue import records

# Tenants stand in keys of Redis and in ids: no NUL, no colon, no blanks.
TENANT_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Scope(StrEnum):
    """What a caller may do; each method needs one of them."""

    INFER = "infer"  # ask models for work, and take it back
    READ = "read"  # follow, look at and list what was asked for
    MODELS = "models"  # see the models, and their tokens of a text
    OPERATE = "operate"  # see the fleet, the audit, and what every tenant took


# All that a tenant's callers need. To operate has to be allowed by name.
ALL_SCOPES = frozenset(Scope) - {Scope.OPERATE}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls.

    tenant: whose generations the call may make and see. It never sees others'.
    scopes: what it may do.
    credential: names what the caller has shown, for the audit; no secret. Such as
        "key:ab12cd34", "jwt:<subject>" or a SPIFFE id; empty where nothing is asked for.
    """

    tenant: str
    scopes: frozenset[Scope] = ALL_SCOPES
    credential: str = ""


# Whoever calls a front that asks for no credentials.
ANYONE = Identity(records.TENANT, ALL_SCOPES | {Scope.OPERATE})

_INFER = (
    "Generate",
    "CreateGeneration",
    "CancelGeneration",
    "Score",
    "Embed",
    "Classify",
    "Rerank",
    "Explain",
)
_READ = (
    "FollowGeneration",
    "GetGeneration",
    "ListGenerations",
    "SumUsage",
    "ListUsageRecords",
)
_OPERATE = ("GetFleet", "ListAuditRecords")
_MODELS = ("ListModels", "GetModel", "Tokenize")

# By the method's name. A method that is missing here cannot be served.
SCOPE_OF: Mapping[str, Scope] = (
    dict.fromkeys(_INFER, Scope.INFER)
    | dict.fromkeys(_READ, Scope.READ)
    | dict.fromkeys(_MODELS, Scope.MODELS)
    | dict.fromkeys(_OPERATE, Scope.OPERATE)
)


def is_tenant(name: str) -> bool:
    """Whether this can be a tenant's name."""
    return TENANT_FORM.fullmatch(name) is not None
