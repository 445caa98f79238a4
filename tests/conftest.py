"""What every test starts from."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Undo what a command under test set up for its logs."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
