"""A JetStream of three servers that fails."""

import time

from servers import NatsCluster
from trial import Fault, trial

STREAM = "push_push"


def _under_load(setting, fails):
    """`fails` gets the cluster and the server that leads the stream. Then both hubs have to recover."""
    nats = NatsCluster(setting.folder)
    hubs = setting.hubs(nats.url(), 2)

    def happens(_):
        leader = nats.leader(STREAM)
        time.sleep(setting.random.uniform(0.3, 0.8))
        fails(nats, leader)
        for hub in hubs:
            hub.wait_until()

    return trial(setting, hubs, happens, nats.servers)


def leader_killed(setting):
    """The server that leads the stream is killed, and started again."""

    def fails(nats, leader):
        leader.kill()
        nats.leader(STREAM, whole=False)
        leader.start()

    return _under_load(setting, fails)


def deleted(setting):
    """The stream is deleted under load, and the hubs make it anew."""

    def fails(nats, leader):
        answer = leader.request(f"$JS.API.STREAM.DELETE.{STREAM}")
        assert answer.get("success"), answer
        nats.leader(STREAM)

    return _under_load(setting, fails)


FAULTS = {
    "nats-leader-killed": Fault(20, "perhaps", leader_killed),
    "nats-stream-deleted": Fault(5, "always", deleted),
}
