"""Page tokens: a list's cursor, in a form that callers have no reason to read."""

from __future__ import annotations

import base64
import binascii
import re

from miao_service.errors import InvalidRequestError

DEFAULT_PAGE_SIZE = 50

_CURSOR = re.compile(r"[0-9]{1,16}:[A-Za-z0-9_-]{1,64}")


def token_of(cursor: str | None) -> str:
    """The token that leads to a cursor; empty at the end."""
    return "" if cursor is None else base64.urlsafe_b64encode(cursor.encode()).decode()


def cursor_of(token: str, field: str) -> str | None:
    """The cursor that a token leads to; InvalidRequestError if it is none of ours."""
    if not token:
        return None
    try:
        cursor = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        cursor = ""
    if not _CURSOR.fullmatch(cursor):
        raise InvalidRequestError.of(field, "must be the next_page_token of another page, or empty")
    return cursor
