"""A Redis that fails, with and without the end of the log."""

import signal
import time

from host import PATIENCE
from servers import Redis
from trial import CHANNELS, Fault, trial

STOPPED_SECONDS = 30
# More than engine_timeout.
STOPPED_SHORT_SECONDS = 5


def await_more(redis, hub):
    """Waits until a message is published behind what the log has now, so that it will be lost."""
    end = int(redis.ask("HGET", "{push}:state", "end"))
    deadline = time.monotonic() + PATIENCE
    while all(hub.newest(channel) <= end for channel in CHANNELS):
        assert time.monotonic() < deadline, "nothing is published"
        time.sleep(0.02)


def promoted(setting):
    """The master is killed. Its replica, which has not got the last messages, takes its place."""
    servers = [Redis(setting.folder, "redis-0"), Redis(setting.folder, "redis-1")]
    servers[1].follow(servers[0])
    hubs = setting.hubs("redis://" + ",".join(f"127.0.0.1:{server.port}" for server in servers), 2)

    def happens(turn):
        master, replica = servers[turn % 2], servers[1 - turn % 2]
        time.sleep(setting.random.uniform(0.2, 0.6))
        replica.stop_following()
        time.sleep(setting.random.uniform(0.1, 0.5))
        await_more(master, hubs[0])
        master.kill()
        replica.promote()
        for hub in hubs:
            hub.wait_until()
        # It must never be a master for a moment: hubs would take it for one.
        master.start("--replicaof", f"127.0.0.1 {replica.port}")
        master.await_link()

    return trial(setting, hubs, happens, servers)


def restarted(with_dump):
    def run(setting):
        redis = Redis(setting.folder, "redis")
        hubs = setting.hubs(redis.url(), 2)

        def happens(_):
            time.sleep(setting.random.uniform(0.2, 0.6))
            if with_dump:
                redis.dump()
                time.sleep(setting.random.uniform(0.2, 0.6))
                await_more(redis, hubs[0])
            redis.restart(with_dump)
            for hub in hubs:
                hub.wait_until()

        return trial(setting, hubs, happens, [redis])

    return run


def stopped(setting):
    """It stands still, with its connections open."""
    redis = Redis(setting.folder, "redis")
    hubs = setting.hubs(redis.url(), 2)

    def happens(_):
        time.sleep(0.5)
        redis.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_SHORT_SECONDS if setting.short else STOPPED_SECONDS)
        redis.send_signal(signal.SIGCONT)
        for hub in hubs:
            hub.wait_until()

    return trial(setting, hubs, happens, [redis])


def deleted(setting):
    """The log is deleted under load, and the hubs make it anew."""
    redis = Redis(setting.folder, "redis")
    hubs = setting.hubs(redis.url(), 2)

    def happens(_):
        time.sleep(setting.random.uniform(0.3, 0.8))
        redis.ask("DEL", *(f"{{push}}:{part}" for part in ("log", "state", "hubs", "keys", "order")))
        time.sleep(0.5)
        for hub in hubs:
            hub.wait_until()

    return trial(setting, hubs, happens, [redis])


FAULTS = {
    "redis-promoted": Fault(20, "always", promoted),
    "redis-empty": Fault(5, "always", restarted(with_dump=False)),
    "redis-older-dump": Fault(5, "always", restarted(with_dump=True)),
    "redis-stopped": Fault(1, "never", stopped),
    "redis-log-deleted": Fault(5, "always", deleted),
}
