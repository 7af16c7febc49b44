"""What clients of nginx publish is checked by an application that is attached under nginx's name: nginx takes no events
itself."""

import contextlib
import json
import sys

import pytest
from servers import PATIENCE, ROOT
from websockets.sync.client import connect

sys.path.insert(0, str(ROOT / "tests/python"))

import push  # noqa: E402

LIBRARY = ROOT / "target/stage/lib/libpush.so"
SITE = "location /push { push_subscribe news; push_client_publish on; }"


@pytest.fixture
def site(start_pushd, configured):
    pushd = start_pushd("events=publish", "client_publish=host", "call_timeout=10m")
    http = f"push_attach {pushd.attach} name=shop timeout=1m;"
    return pushd, configured(attached=False, http=http, server=SITE).start()


@contextlib.contextmanager
def application(pushd, name):
    """An attached host that takes the messages. The hub knows of it when this begins."""
    server = push.Server(str(LIBRARY), attach=pushd.attach, attach_name=name, attach_timeout="1m", events="publish")
    try:
        server.want_events()
        # The hub does what a host asks in order.
        server.publish("elsewhere", b"here")
        yield server
    finally:
        server.stop()


def say(client, number, text):
    client.send(json.dumps({"type": "publish", "ref": number, "channel": "news", "data": text}))


def test_an_application_of_nginxs_name_checks_what_its_clients_publish(site):
    pushd, nginx = site
    url = nginx.url("/push", scheme="ws")
    with connect(url, subprotocols=["push.v1.json"], proxy=None, open_timeout=PATIENCE) as client:

        def hear():
            return json.loads(client.recv())

        assert hear()["type"] == "subscribed"
        # Without an application, and with one of another name, nobody could check it.
        say(client, 1, "nobody is there")
        assert hear().items() >= {"code": "refused", "status": 503, "ref": 1}.items()
        with application(pushd, "office"):
            say(client, 2, "another one is there")
            assert hear().items() >= {"code": "refused", "status": 503, "ref": 2}.items()
        with application(pushd, "shop") as shop:
            say(client, 3, "as it is")
            say(client, 4, "bad words")
            say(client, 5, "no")
            asked = [shop.next_publish() for _ in range(3)]
            assert [(channel, data) for _, channel, data in asked] == [
                ("news", b"as it is"), ("news", b"bad words"), ("news", b"no"),
            ]  # fmt: skip
            as_it_is, replaced, refused = (request for request, _, _ in asked)
            shop.deny(refused, 403, "not that")
            assert hear().items() >= {"code": "refused", "status": 403, "message": "not that", "ref": 5}.items()
            shop.allow_publish(replaced, b"good words")
            shop.allow_publish(as_it_is)
            heard = [hear() for _ in range(4)]
            assert [one["ref"] for one in heard if one["type"] == "published"] == [3, 4]
            assert [one["data"] for one in heard if one["type"] == "message"] == ["as it is", "good words"]
    assert pushd.stats()["publish_checks"] == 3 + 1, "that of the other name was given back"
