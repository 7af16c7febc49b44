"""No reload, no dead worker and no restart of nginx is felt by anybody whom it has handed over."""

import http.client

import pytest
from reloads import show
from servers import PATIENCE, wait_until

SITE = """
    location /push { push_subscribe; push_grant *; }
    location /publish {
        push_publish $push_arg_channel key=$http_push_key;
        add_header X-Worker $pid;
    }
    location /stub { stub_status; }
    location / { return 200 "here\\n"; }
"""


@pytest.mark.timeout(600)
def test_ten_reloads_a_dead_worker_and_a_restart(start_pushd, start_nginx):
    # Enough history for a poll that comes back late, and keys remembered for as long as a publisher tries. The crowd does
    # not answer pings.
    pushd = start_pushd("history_count=1000", "poll_timeout=5s", "heartbeat=10m")
    # A worker that was killed is nothing that nginx would pass over in silence.
    nginx = start_nginx(server=SITE, workers=4, expected=1)
    found = show(nginx, "push", patience=PATIENCE)
    print(found)
    assert found["lost"] == found["doubled or out of order"] == found["dropped"] == found["unanswered"] == 0, found
    assert found["deliveries"] == 200 * found["published"], found
    # Every generation of workers had its part. Within one, the kernel may give some workers nothing.
    assert found["idle generations"] == 0, found
    assert found["old workers never went"] == 0, found
    # Nobody who was handed over went without an answer: the hub has as many as the clients know of.
    stats = pushd.stats()
    known = found["streams"] + found["polls answered"] + found["polls under way"]
    assert stats["adopted"] <= known, (stats, found)
    wait_until(lambda: len(nginx.workers()) == 4, "one generation of workers is left")


def test_a_publish_that_waits_is_answered_by_the_worker_that_has_it(start_pushd, start_nginx):
    """A worker that is to end does so when nobody waits for it any more."""
    pushd = start_pushd()
    nginx = start_nginx(server=SITE, workers=1)
    nginx.publish("a", "there")
    pushd.hang()
    connection = http.client.HTTPConnection(nginx.host, nginx.port, timeout=PATIENCE)
    connection.request("POST", "/publish?channel=a", b"waits")
    wait_until(lambda: b"Writing: 2" in nginx.get("/stub")[2], "it waits")
    nginx.reload()
    pushd.wake()
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()
