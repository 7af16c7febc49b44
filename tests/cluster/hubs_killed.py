"""Hubs that are killed, and hubs with clocks of their own."""

import time

from hubs import Hub
from servers import Redis
from trial import OPTIONS, Fault, trial

# The dynamic loader expands $LIB to the directory where Debian has the library.
FAKETIME = "/usr/$LIB/faketime/libfaketimeMT.so.1"


def killed(setting):
    """One of three hubs is killed, and started again at its place."""
    redis = Redis(setting.folder, "redis")
    hubs = setting.hubs(redis.url(), 3)

    def happens(_):
        again(setting, setting.random.choice(hubs))

    return trial(setting, hubs, happens, [redis])


def clocks(setting):
    """The clocks of two hubs are ten minutes apart. Each reads what the other has published, live and at a start."""
    redis = Redis(setting.folder, "redis")
    ahead = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+10m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    hubs = [
        Hub("hub-0", setting.folder, redis.url(), *OPTIONS),
        Hub("hub-ahead", setting.folder, redis.url(), *OPTIONS, environment=ahead),
    ]

    def happens(turn):
        again(setting, hubs[turn % 2])

    return trial(setting, hubs, happens, [redis])


def again(setting, hub):
    """Kills a hub under load, and starts it again."""
    time.sleep(setting.random.uniform(0.2, 0.8))
    hub.kill()
    time.sleep(setting.random.uniform(0, 0.5))
    hub.start()
    hub.wait_until()


FAULTS = {"hub-killed": Fault(50, "never", killed), "clocks-apart": Fault(6, "never", clocks)}
