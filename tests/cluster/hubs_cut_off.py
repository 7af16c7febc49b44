"""A hub that is cut off from its log, in a network namespace of its own, while its clients stay connected to it."""

import contextlib
import os
import subprocess
import time

from hubs import Hub
from servers import Redis
from trial import OPTIONS, Fault, trial

CUT_SECONDS = 10
CUT_SHORT_SECONDS = 5
# The smallest log that the options allow.
RETENTION = "engine_retention_bytes=1MB"
PADDING = 8000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Namespace:
    """A network namespace with two ways out: one for clients, one to the log."""

    def __init__(self):
        # No other run has the same.
        number = os.getpid() % 200 + 20
        self.name = f"push-cluster-{os.getpid()}"
        self.clients, self.log = f"pc{os.getpid()}", f"pl{os.getpid()}"
        self.of_hub, self.of_log = f"10.213.{number}.2", f"10.214.{number}.1"
        self.prefix = ("ip", "netns", "exec", self.name)
        ip("netns", "add", self.name)
        try:
            self._connect(number)
        except subprocess.CalledProcessError:
            self.remove()
            raise

    def _connect(self, number):
        for link, net in ((self.clients, f"10.213.{number}"), (self.log, f"10.214.{number}")):
            ip("link", "add", link, "type", "veth", "peer", "name", f"{link}n", "netns", self.name)
            ip("addr", "add", f"{net}.1/30", "dev", link)
            ip("link", "set", link, "up")
            ip("-n", self.name, "addr", "add", f"{net}.2/30", "dev", f"{link}n")
            ip("-n", self.name, "link", "set", f"{link}n", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def cut(self):
        ip("link", "set", self.log, "down")

    def mend(self):
        ip("link", "set", self.log, "up")

    def remove(self):
        for link in (self.clients, self.log):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("link", "del", link)
        ip("netns", "del", self.name)


def cut_off(beyond_retention):
    def run(setting):
        namespace = Namespace()
        try:
            redis = Redis(setting.folder, "redis", addresses=("127.0.0.1", namespace.of_log))
            options = (*OPTIONS, *((RETENTION,) if beyond_retention else ()))
            engine = f"redis://{namespace.of_log}:{redis.port}"
            place = {"host": namespace.of_hub, "prefix": namespace.prefix}
            hub = Hub("hub-cut-off", setting.folder, engine, *options, **place)
            others = [Hub(f"hub-{at}", setting.folder, redis.url(), *options) for at in range(2)]

            def happens(_):
                time.sleep(1)
                namespace.cut()
                hub.wait_until(is_healthy=False)
                if beyond_retention:
                    before = int(redis.ask("HGET", "{push}:state", "end"))
                    while first(redis) <= before + 20:
                        time.sleep(0.2)
                else:
                    time.sleep(CUT_SHORT_SECONDS if setting.short else CUT_SECONDS)
                namespace.mend()
                hub.wait_until()

            return trial(setting, [hub, *others], happens, [redis], padding=PADDING if beyond_retention else 0)
        finally:
            namespace.remove()

    return run


def first(redis):
    """The number of the first entry that the log still has."""
    ask = "return redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]"
    return int(redis.ask("EVAL", ask, "1", "{push}:log").removesuffix("-0"))


FAULTS = {
    "hub-cut-off": Fault(2, "never", cut_off(beyond_retention=False)),
    "hub-cut-off-for-long": Fault(2, "always", cut_off(beyond_retention=True)),
}
