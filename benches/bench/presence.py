"""Who is there: a crowd of users that comes at once to a channel with presence, and the memory of such clients."""

from dataclasses import replace

from . import load
from .load import Load

USERS, QUICK_USERS = 10_000, 3_000
IDLE, QUICK_IDLE, FIRST_STEP = 19_000, 3_000, 1_000
# What is sent in this time after the last has been told belongs to the crowd as well.
SETTLE_MS = 1_500


def _run(server, the_load):
    """All that follow must be told the number of all in the end. So a hub that tells nobody is not a fast one."""
    if server.name.startswith("libpush-presence"):
        the_load = replace(the_load, told=f'"count":{the_load.subscribers}}}')
    return load.run(server, the_load)


def join(server, quick):
    return _run(server, Load("sse", QUICK_USERS if quick else USERS, settle_ms=SETTLE_MS))


def idle(server, quick):
    count = QUICK_IDLE if quick else IDLE
    return _run(server, Load("sse", count, first_step=FIRST_STEP, settle_ms=SETTLE_MS))
