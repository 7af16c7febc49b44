"""A JetStream of three servers that fails."""

import time

from servers import NatsCluster
from trial import Fault, trial

STREAM = "push_push"


def leader_killed(setting):
    """The server that leads the stream is killed, and started again."""
    nats = NatsCluster(setting.folder)
    hubs = setting.hubs(nats.url(), 2)

    def happens(_):
        leader = nats.leader(STREAM)
        time.sleep(setting.random.uniform(0.3, 0.8))
        leader.kill()
        nats.leader(STREAM, whole=False)
        leader.start()
        for hub in hubs:
            hub.wait_until()

    return trial(setting, hubs, happens, nats.servers)


def deleted(setting):
    """The stream is deleted under load, and the hubs make it anew."""
    nats = NatsCluster(setting.folder)
    hubs = setting.hubs(nats.url(), 2)

    def happens(_):
        leader = nats.leader(STREAM)
        time.sleep(setting.random.uniform(0.3, 0.8))
        answer = leader.request(f"$JS.API.STREAM.DELETE.{STREAM}")
        assert answer.get("success"), answer
        nats.leader(STREAM)
        for hub in hubs:
            hub.wait_until()

    return trial(setting, hubs, happens, nats.servers)


FAULTS = {
    "nats-leader-killed": Fault(20, "perhaps", leader_killed),
    "nats-stream-deleted": Fault(5, "always", deleted),
}
