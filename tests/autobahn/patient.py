"""The suite's fuzzing client, with more patience: its cases give a server a second for each step, and a busy machine may
need more. Run by wstest, in the suite's Python 2.7. An answer that is there ends the wait, so it costs nothing."""

from autobahn.websocket.protocol import WebSocketClientFactory
from autobahntestsuite import fuzzing, wstest

# For an echo, or an end, that is awaited.
SECONDS_OF_A_SECOND = 60
# Between two parts of a message, where the first alone must have ended the connection: this time is spent.
SECONDS_OF_A_PAUSE = 3


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
