"""Calls that several files begin with."""

import pytest

from gateway.settings import MediaSettings
from tests.peers import Table


@pytest.fixture
def talk():
    """A call in full swing: both legs up, nothing said yet."""
    table = Table()
    table.connect_agent()
    table.start()
    return table


@pytest.fixture
def unmended():
    """The same, but a lost agent leg is not dialled anew."""
    table = Table(settings=MediaSettings(agent_redials=0))
    table.connect_agent()
    table.start()
    return table
