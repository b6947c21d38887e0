"""pytest's fixture. In a conftest.py: `pytest_plugins = ["miao_client.testing.plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from miao_client.testing.fake import FakeService


@pytest.fixture
def miao_service() -> Iterator[FakeService]:
    """A fake service of its own for each test, already serving at `miao_service.target`."""
    with FakeService() as service:
        yield service
