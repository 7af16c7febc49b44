"""The suite's fuzzing client, with more patience. Its cases give a server a second for each step, and a busy machine
may need more. wstest runs this in the suite's Python 2.7. An answer ends the wait, so the patience costs nothing."""

from autobahn.websocket.protocol import WebSocketClientFactory
from autobahntestsuite import fuzzing, wstest

# How long to wait for an echo, or for the end.
SECONDS_OF_A_SECOND = 60
# The time between two parts of a message, if the first alone must end the connection. This time is always spent.
SECONDS_OF_A_PAUSE = 10


def stretched(name, times):
    timer = getattr(fuzzing.FuzzingProtocol, name)
    setattr(fuzzing.FuzzingProtocol, name, lambda self, delay, *what: timer(self, delay * times, *what))


def with_patience(self, reset=WebSocketClientFactory.resetProtocolOptions):
    reset(self)
    self.openHandshakeTimeout = self.closeHandshakeTimeout = self.serverConnectionDropTimeout = SECONDS_OF_A_SECOND


stretched("killAfter", SECONDS_OF_A_SECOND)
stretched("closeAfter", SECONDS_OF_A_SECOND)
stretched("continueLater", SECONDS_OF_A_PAUSE)
WebSocketClientFactory.resetProtocolOptions = with_patience
wstest.run()
