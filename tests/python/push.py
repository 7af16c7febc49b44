"""libpush through ctypes: only what a host in any language with a foreign function interface needs."""

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p

OK, BUSY, TIMEOUT = 0, -4, -7
EVENT_OPEN, EVENT_MESSAGE, EVENT_CLOSE, EVENT_PUBLISH = 1, 2, 3, 10
GRANT_PUBLISH, GRANT_KEEP_ALIVE = 1, 2


class Message(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("channel", c_char_p), ("data", c_char_p), ("len", c_size_t),
                ("event", c_char_p), ("key", c_char_p), ("flags", c_uint32), ("reserved", c_uint32),
                ("trace", c_char_p)]


class Position(ctypes.Structure):
    _fields_ = [("seq", c_uint64), ("text", c_char * 56)]


class Grant(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("user", c_char_p), ("channels", POINTER(c_char_p)), ("channel_count", c_size_t),
                ("expires_at", c_int64), ("flags", c_uint32), ("reserved", c_uint32), ("patterns", POINTER(c_char_p)),
                ("pattern_count", c_size_t)]


class Event(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("kind", c_uint32), ("flags", c_uint32), ("connection", c_uint64),
                ("request", c_uint64), ("user", c_char_p), ("channel", c_char_p), ("data", c_void_p),
                ("len", c_size_t), ("code", c_uint32), ("reserved", c_uint32), ("owner", c_void_p)]


class Error(Exception):
    """A status, with the library's text for it."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Server:
    """A push_server. Start it after the fork: its threads would not survive one."""

    def __init__(self, library, **options):
        self.c = c = ctypes.CDLL(library)
        c.push_config_new.restype = c_void_p
        c.push_config_free.argtypes = [c_void_p]
        c.push_config_set.argtypes = [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]
        c.push_start.argtypes = [c_void_p, POINTER(c_void_p), c_char_p, c_size_t]
        c.push_stop.argtypes = [c_void_p, c_uint32]
        c.push_publish.argtypes = [c_void_p, c_char_p, c_char_p, c_size_t]
        c.push_publish_message.argtypes = [c_void_p, POINTER(Message), POINTER(Position)]
        c.push_adopt.argtypes = [c_void_p, c_int, c_char_p, c_size_t, POINTER(Grant)]
        c.push_send.argtypes = [c_void_p, c_uint64, c_void_p, c_size_t, c_uint32]
        c.push_event_fd.argtypes = [c_void_p]
        c.push_next_event.argtypes = [c_void_p, POINTER(Event), c_size_t, c_int]
        c.push_event_clear.argtypes = [POINTER(Event)]
        c.push_allow_publish.argtypes = [c_void_p, c_uint64, POINTER(Message)]
        c.push_deny.argtypes = [c_void_p, c_uint64, c_uint16, c_char_p]
        c.push_strerror.restype = c_char_p
        err = ctypes.create_string_buffer(256)
        config = c.push_config_new()
        self.server = c_void_p()
        try:
            for name, value in options.items():
                self._check(c.push_config_set(config, name.encode(), str(value).encode(), err, len(err)), err)
            self._check(c.push_start(config, ctypes.byref(self.server), err, len(err)), err)
        finally:
            c.push_config_free(config)

    def _check(self, status, err=None):
        if status != OK:
            text = err.value if err is not None and err.value else self.c.push_strerror(status)
            raise Error(status, text.decode())

    def post(self, channel, data):
        """Publishes, and does not wait."""
        self._check(self.c.push_publish(self.server, channel.encode(), data, len(data)))

    def publish(self, channel, data, key=None, trace=None):
        """Publishes, and returns the position."""
        message = Message(size=ctypes.sizeof(Message), channel=channel.encode(), data=data, len=len(data),
                          key=key.encode() if key else None,
                          trace=None if trace is None else trace.encode("latin-1"))
        position = Position()
        self._check(self.c.push_publish_message(self.server, ctypes.byref(message), ctypes.byref(position)))
        return position.text.decode()

    def adopt(self, socket, head, user=None, patterns=()):
        """Hands over a client. If it fails, the socket is still the caller's."""
        texts = (c_char_p * len(patterns))(*[pattern.encode() for pattern in patterns])
        grant = Grant(size=ctypes.sizeof(Grant), user=user.encode() if user else None, patterns=texts,
                      pattern_count=len(patterns))
        self._check(self.c.push_adopt(self.server, socket.fileno(), head, len(head), ctypes.byref(grant)))
        socket.detach()

    def send(self, connection, data):
        self._check(self.c.push_send(self.server, connection, data, len(data), 0))

    def events(self, timeout_ms=-1):
        """Yields (kind, connection, user, data) until no event comes for that long."""
        event = Event(size=ctypes.sizeof(Event))
        try:
            while self.c.push_next_event(self.server, ctypes.byref(event), ctypes.sizeof(event), timeout_ms) == OK:
                data = ctypes.string_at(event.data, event.len) if event.len else b""
                yield event.kind, event.connection, (event.user or b"").decode(), data
        finally:
            self.c.push_event_clear(ctypes.byref(event))

    def next_publish(self, timeout_ms=60_000):
        """Waits for the next event, which must be a client's message to check: (request, channel, data)."""
        event = Event(size=ctypes.sizeof(Event))
        try:
            self._check(self.c.push_next_event(self.server, ctypes.byref(event), ctypes.sizeof(event), timeout_ms))
            assert event.kind == EVENT_PUBLISH, event.kind
            return event.request, event.channel.decode(), ctypes.string_at(event.data, event.len)
        finally:
            self.c.push_event_clear(ctypes.byref(event))

    def allow_publish(self, request, instead=None):
        """Lets a client's message be published, or this in its place."""
        message = None
        if instead is not None:
            message = ctypes.byref(Message(size=ctypes.sizeof(Message), data=instead, len=len(instead)))
        self._check(self.c.push_allow_publish(self.server, request, message))

    def deny(self, request, status, reason):
        self._check(self.c.push_deny(self.server, request, status, reason.encode()))

    def want_events(self):
        return self.c.push_event_fd(self.server)

    def stop(self, drain_ms=1000):
        self._check(self.c.push_stop(self.server, drain_ms))
