"""What several files begin with: calls in full swing, and a media plane that runs."""

import contextlib

import pytest
import trio

from gateway.intake import new_intake, plain_intake
from gateway.mediaplane import MediaPlane
from gateway.settings import MediaSettings
from tests.gateway.mediaplane_rig import BOUND, Stage
from tests.peers import Table

# Their asserts say what they compared, as those in the tests do.
pytest.register_assert_rewrite("tests.gateway.websocket_rig", "tests.gateway.legs_rig")


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


@pytest.fixture(params=[plain_intake, new_intake], ids=["plain", "built"])
async def stage(request):
    """Both ways of reading sockets; without a compiler they are the same one."""
    with contextlib.ExitStack() as stack, trio.fail_after(60):
        plane = MediaPlane(leg_write_max_bytes=BOUND, intake=request.param)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plane.run)
            yield Stage(plane, stack)
            nursery.cancel_scope.cancel()
