"""One trial: hubs and servers under load, a fault that happens some times, and the judgement."""

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable

from host import PATIENCE
from hubs import Hub
from ledger import Verdict, judge
from load import Publisher
from pages import Pages
from readers import Readers

CHANNELS = ("a", "b")
# The readyState of an EventSource that does not come back.
CLOSED = 2
# Nothing that is published may become too old or too much, if a fault does not want that.
OPTIONS = (
    "engine_timeout=2s", "retry=100ms", "history_count=1000000", "history_age=1h", "history_bytes=256MB",
    "history_total=1GB", "outbox=64MB", "outbox_total=1GB",
)  # fmt: skip


@dataclasses.dataclass
class Fault:
    """`times`: how often it happens in a whole run. `gaps`: whether gaps are told: "never", "always" or "perhaps"."""

    times: int
    gaps: str
    run: Callable


@dataclasses.dataclass
class Setting:
    folder: str
    random: random.Random
    times: int
    short: bool
    has_browser: bool

    def hubs(self, engine, count, *options):
        return [Hub(f"hub-{at}", self.folder, engine, *OPTIONS, *options) for at in range(count)]


@dataclasses.dataclass
class Result:
    published: int
    readers: Verdict
    pages: Verdict
    openings: int
    complaints: list

    def problem(self, fault):
        """What is wrong, or None."""
        found = list(self.complaints)
        both = self.readers + self.pages
        if not both.is_good:
            found.append(f"lost, doubled or out of order: {both}")
        if fault.gaps == "never" and both.gaps:
            found.append("there were gaps")
        if fault.gaps == "always" and not both.gaps:
            found.append("no gap was told")
        return "; ".join(found) or None


def trial(setting, hubs, happens, servers=(), padding=0, finish=lambda: None):
    """Runs `happens(turn)` under load, so often as the setting says, and judges. Ends all processes."""
    with contextlib.ExitStack() as ends:
        for server in servers:
            ends.callback(server.kill)
        for hub in hubs:
            ends.callback(hub.kill)
        for hub in hubs:
            hub.wait_until()
        readers = Readers(hubs, CHANNELS)
        readers.start()
        ends.callback(readers.stop)
        assert readers.wait_until_subscribed(PATIENCE), "the readers do not subscribe"
        pages = None
        if setting.has_browser:
            pages = Pages(hubs, CHANNELS)
            ends.callback(pages.close)
        publishers = [Publisher(channel, hubs, setting.random.random(), padding) for channel in CHANNELS]
        for publisher in publishers:
            publisher.start()
        for turn in range(setting.times):
            happens(turn)
        finish()
        for hub in hubs:
            hub.wait_until()
        time.sleep(0.5)
        published = {publisher.channel: publisher.stop() for publisher in publishers}
        last = set(published.items())
        complaints = []
        if not readers.wait_for(last, PATIENCE):
            late = [reader.name for reader in readers.readers if not last <= set(reader.seen[-2000:])]
            complaints.append(f"the last messages do not come to {late}")
        if pages and not pages.wait_for(last, PATIENCE):
            complaints.append("the last messages do not come to the browser")
        # What comes twice comes soon.
        time.sleep(0.5)
        verdicts = {reader.name: judge(reader.seen, published) for reader in readers.readers}
        openings, for_browser = 0, {}
        for hub, (told, opened, state) in zip(hubs, pages.look()) if pages else ():
            for_browser[f"the page at {hub.name}"] = judge(told, published)
            openings += opened
            if state == CLOSED:
                complaints.append(f"the EventSource at {hub.name} was ended for good")
        everybody = {**verdicts, **for_browser}
        complaints += [f"{who}: {verdict}" for who, verdict in everybody.items() if not verdict.is_good]
        for hub in hubs:
            if not hub.stop():
                complaints.append(f"{hub.name} does not end well")
        of_all, of_pages = (sum(some.values(), Verdict()) for some in (verdicts, for_browser))
        return Result(sum(published.values()), of_all, of_pages, openings, complaints)
