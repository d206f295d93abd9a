"""Terminals for the tests of the command line."""

import pytest
from terminals import Terminal


@pytest.fixture
def terminal(tmp_path):
    """A terminal in an empty directory; no process of its clusters is left when the test is over."""
    opened = Terminal(tmp_path.resolve())
    yield opened
    opened.close()
