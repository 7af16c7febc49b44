"""Processes that attach and are no hosts: raw bytes and descriptors against pushd's attach socket. tests/python/run
runs this.

Each is refused and logged, and leaves neither descriptors nor memory in pushd. pushd goes on serving its hosts.
"""

import array
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
import traceback
import unittest
from contextlib import suppress

import push

LIBRARY, PUSHD = (os.environ[name] for name in ("PUSH_LIBRARY", "PUSHD"))
# How long to wait for something that must come. It is long, as the machine may be busy.
PATIENCE = 120
NOBODY = 65534
SCM_MAX_FD = 253
(HELLO, PUBLISH, _, BATCH, ADOPT, SEND, _, ALLOW, _, _, STATS, CREDIT, _, _, USERS) = range(1, 16)
WELCOME, REFUSED, ANSWERED_STATS, EVENT = 65, 66, 70, 71


def frame(kind, body=b""):
    return struct.pack("<IB", len(body) + 1, kind) + body


def text(value):
    return struct.pack("<H", len(value)) + value


def hello(version=1, name=b"hostile", session=None):
    fields = (session or os.urandom(16)) + bytes(8) + text(b"") + text(name)
    return frame(HELLO, b"libpush\0" + struct.pack("<H", version) + fields)


def publication(channel=b"a", data=b"x"):
    return b"\0" + text(channel) + b"\0\0" + struct.pack("<I", len(data)) + data


def publish(number, **fields):
    return frame(PUBLISH, struct.pack("<Q", number) + publication(**fields))


def users(number, channel=b"a", after=b"", limit=10):
    return frame(USERS, struct.pack("<Q", number) + text(channel) + text(after) + struct.pack("<I", limit))


def adopt(grant=b"\0", head=b"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    return frame(ADOPT, grant + struct.pack("<I", len(head)) + head)


def grant(user=b"ann", subscribe=(b"a",), count=None, info=None):
    names = b"".join(map(text, subscribe))
    named = b"\0" if user is None else b"\1" + text(user)
    return (b"\1" + named + b"\1" + struct.pack("<H", len(subscribe) if count is None else count) + names + b"\0"
            + bytes(8) + (b"\0" if info is None else b"\4" + text(info)))


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="push-")
        self.addCleanup(self.directory.cleanup)
        self.path = f"{self.directory.name}/attach.sock"
        self.log_path = f"{self.directory.name}/log"

    def start(self, *options):
        options = ["listen=none", f"attach_listen=unix:{self.path}", "threads=1", *options]
        with open(self.log_path, "w") as log:
            arguments = [argument for option in options for argument in ("-o", option)]
            self.pushd = subprocess.Popen([PUSHD, *arguments, "-d", "0"], stderr=log)
        self.addCleanup(self.end)
        self.wait(lambda: "unix:" in self.log(), "it listens")
        # A real host, which is there all the time.
        self.host = push.Server(LIBRARY, attach=f"unix:{self.path}", attach_timeout="1m")
        self.addCleanup(self.host.stop)
        self.host.publish("a", b"first")
        self.descriptors = self.open()

    def end(self):
        self.pushd.terminate()
        self.pushd.wait(PATIENCE)

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def open(self):
        return len(os.listdir(f"/proc/{self.pushd.pid}/fd"))

    def memory(self):
        with open(f"/proc/{self.pushd.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def wait(self, reached, what):
        deadline = time.monotonic() + PATIENCE
        while not reached():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.005)

    def still_serves(self):
        self.host.publish("a", b"still")
        self.wait(lambda: self.open() == self.descriptors, "every descriptor is closed")

    def connect(self):
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE)
        peer.connect(self.path)
        return peer

    def welcomed(self, peer):
        """Says hello. Returns whether the hub's first frame is a welcome, which is read to its end."""
        with suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(hello())
            head = self.exactly(peer, 5)
            if head[4:] == bytes([WELCOME]):
                rest = struct.unpack("<I", head[:4])[0] - 1
                return len(self.exactly(peer, rest)) == rest
        return False

    @staticmethod
    def exactly(peer, count):
        """Reads so many bytes, or fewer if the connection ends before."""
        got = b""
        while len(got) < count and (part := peer.recv(count - len(got))):
            got += part
        return got

    def attached(self):
        """A hub sends a host away that takes five seconds for its hello. Then there is a next one."""
        deadline = time.monotonic() + PATIENCE
        while not self.welcomed(peer := self.connect()):
            peer.close()
            self.assertLess(time.monotonic(), deadline, "it is welcomed")
        return peer

    def says(self, message):
        """Sends that as the first bytes of a connection. Returns what pushd says until it ends the connection."""
        peer = self.connect()
        with suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(message)
        return self.let_go(peer)

    def refused(self, path, text):
        """The hub there refuses a server of the library. If it is late, the server starts, and tries again later."""
        def is_refused():
            try:
                push.Server(LIBRARY, attach=f"unix:{path}").stop()
            except push.Error as error:
                self.assertIn(text, str(error))
                return True
            return False

        self.wait(is_refused, text)

    def let_go(self, peer):
        """Reads until pushd ends the connection. Returns the bytes."""
        said = b""
        try:
            while part := peer.recv(65536):
                said += part
        except ConnectionResetError:
            pass
        peer.close()
        return said

    def logged(self, line):
        self.wait(lambda: line in self.log(), line)


class Frames(Case):
    def test_bytes_that_are_no_frames(self):
        self.start()
        cases = {
            "a frame that is too large": struct.pack("<I", 0xffffffff),
            "an empty frame": bytes(4),
            "a frame of unknown type": frame(200),
            "a batch of too many messages": frame(BATCH, struct.pack("<QI", 1, 0xffffffff)),
            "a frame that ends too early": frame(BATCH, struct.pack("<QI", 1, 3) + 2 * publication()),
            "a frame with something after its end": frame(BATCH, struct.pack("<QI", 1, 1) + 2 * publication()),
            "a text that is not UTF-8": publish(1, channel=b"\xff"),
            "a message with unknown flags": frame(PUBLISH, bytes(8) + b"\x80" + publication()[1:]),
            "it sent a second hello frame": hello(),
            "it sent a frame without its descriptor": adopt(),
        }
        for line, wrong in cases.items():
            with self.subTest(line):
                peer = self.attached()
                peer.sendall(wrong)
                self.let_go(peer)
                self.logged(f"is disconnected: {line}")
        line = "is disconnected: its first frame is not a hello"

        def is_told():
            # One that is late is disconnected for another reason.
            self.says(publish(1))
            return line in self.log()

        self.wait(is_told, line)
        self.still_serves()

    def test_a_question_for_too_many_users(self):
        self.start()
        peer = self.attached()
        peer.sendall(users(1, limit=10_000) + users(2, limit=10_001))
        self.let_go(peer)
        self.logged("is disconnected: a request for too many users")
        self.still_serves()

    def test_forged_grants(self):
        self.start()
        for number, forged in enumerate([
            grant(user=b""), grant(user=b"a\nb"), grant(user=b"x" * 300), grant(subscribe=[b"a\0"]),
            grant(subscribe=[b""]),
            grant(count=0xffff), grant(count=2), grant()[:-1] + b"\x0f",
            grant(info=b""), grant(info=b"a\0"), grant(info=b"x" * 1025), grant(user=None, info=b"Ann"),
        ]):
            with self.subTest(number):
                client, passed = socket.socketpair()
                client.settimeout(PATIENCE)
                peer = self.attached()
                socket.send_fds(peer, [adopt(forged)], [passed.fileno()])
                passed.close()
                self.let_go(peer)
                self.assertEqual(client.recv(1), b"", "it was closed, not served")
                client.close()
        self.logged("is disconnected: a grant that is not allowed")
        self.still_serves()

    def test_a_host_that_dies_in_the_middle_of_a_frame(self):
        self.start()
        whole = publish(1, data=b"never")
        for cut in range(len(whole)):
            peer = self.attached()
            peer.sendall(whole[:cut])
            peer.close()
        for cut in range(1, len(adopt())):
            peer = self.attached()
            client, passed = socket.socketpair()
            socket.send_fds(peer, [adopt()[:cut]], [passed.fileno()])
            for end in (peer, passed, client):
                end.close()
        self.still_serves()

    def test_another_version_is_told_on_both_sides(self):
        self.start()
        line = "the host speaks version 15 of the attach protocol, the hub speaks 1 to 14"
        # After the version any bytes may follow.
        wrong = frame(HELLO, b"libpush\0" + struct.pack("<H", 15) + b"whatever")
        self.wait(lambda: (said := self.says(wrong))[4:5] == bytes([REFUSED]) and line.encode() in said, line)
        self.logged(line)
        # The library, with a hub that speaks another version.
        path = f"{self.directory.name}/other.sock"
        with socket.socket(socket.AF_UNIX) as hub:
            hub.bind(path)
            hub.listen()
            refusal = frame(REFUSED, b"\1" + text(b"the host speaks version 14, the hub speaks 15"))
            seen, sees = os.pipe()
            pid = os.fork()
            if pid == 0:
                signal.alarm(2 * PATIENCE)
                try:
                    while True:
                        attached, _ = hub.accept()
                        with attached, suppress(BrokenPipeError, ConnectionResetError):
                            os.write(sees, attached.recv(1000)[13:14])
                            attached.sendall(refusal)
                finally:
                    os._exit(1)
            os.close(sees)
            try:
                self.refused(path, "the hub refuses: the host speaks version 14, the hub speaks 15")
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            # It has tried the newest version that it speaks, then the older ones.
            with os.fdopen(seen, "rb") as versions:
                self.assertEqual(list(versions.read()[-14:]), list(range(14, 0, -1)))


class Descriptors(Case):
    def test_what_is_no_connection(self):
        self.start()
        listening = socket.create_server(("127.0.0.1", 0))
        poll = select.epoll()
        self.addCleanup(poll.close)
        datagrams, packets = (socket.socketpair(type=kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET))
        for end in (*datagrams, *packets):
            self.addCleanup(end.close)
        kinds = {
            "a device": os.open("/dev/null", os.O_RDWR), "a directory": os.open("/", os.O_RDONLY),
            "a pipe": os.pipe()[0],
            "an epoll": os.dup(poll.fileno()),
            "a listener": listening.detach(), "not connected": socket.socket().detach(),
            "datagrams": os.dup(datagrams[0].fileno()),
            "packets": os.dup(packets[0].fileno()),
            "only a path": os.open("/", os.O_PATH),
        }
        peer = self.attached()
        for kind, fd in kinds.items():
            with self.subTest(kind):
                before = self.log().count("a descriptor from process")
                socket.send_fds(peer, [adopt()], [fd])
                os.close(fd)
                self.wait(lambda: self.log().count("a descriptor from process") > before, "it is logged")
        # The real host is still there after all of that.
        client, passed = socket.socketpair()
        client.settimeout(PATIENCE)
        socket.send_fds(
            peer, [adopt(grant(), b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")], [passed.fileno()]
        )
        passed.close()
        got = b""
        while b"first" not in got:
            part = client.recv(65536)
            self.assertTrue(part, got)
            got += part
        client.close()
        peer.close()
        self.still_serves()

    def test_descriptors_that_nobody_asked_for(self):
        self.start()
        null = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, null)
        peer = self.attached()
        socket.send_fds(peer, [frame(STATS, bytes(8))], [null] * SCM_MAX_FD)
        self.let_go(peer)
        self.logged("more descriptors at once than are allowed")
        peer = self.attached()
        try:
            for _ in range(1000):
                socket.send_fds(peer, [frame(STATS, bytes(8))], [null] * 8)
        except OSError:
            pass
        self.let_go(peer)
        self.logged("it sent descriptors without frames")
        # Before a hello, a byte at a time.
        for _ in range(100):
            peer = self.connect()
            try:
                for byte in hello()[:-1]:
                    socket.send_fds(peer, [bytes([byte])], [null] * 4)
            except OSError:
                pass
            peer.close()
        self.still_serves()

    def test_the_attach_socket_itself(self):
        self.start()
        peer = self.attached()
        try:
            for _ in range(20):
                # The descriptors are in a circle, so only the kernel's collector could free them if nobody takes them.
                socket.send_fds(peer, [adopt()], [peer.fileno()])
        except OSError:
            # The hub may have disconnected it, because the answer to the first was no frame of a host.
            pass
        peer.close()
        # The answers to the polls come to the attach socket, and are no frames of a host.
        self.wait(
            lambda: self.host.publish("a", b"x") and self.open() == self.descriptors, "every descriptor is closed"
        )


class Crowds(Case):
    def test_ten_thousand_that_say_nothing(self):
        self.start()
        peers, most = [], 0
        for _ in range(10_000):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(self.path)
            peers.append(peer)
            if len(peers) == 500:
                most = max(most, self.open())
                self.host.publish("a", b"meanwhile")
                for peer in peers:
                    peer.close()
                peers = []
        self.assertLess(most, self.descriptors + 100, "they wait outside")
        self.logged("too many connections have not sent a hello frame")
        self.still_serves()

    @unittest.skipIf(os.geteuid(), "only root can be two users")
    def test_a_crowd_of_another_user(self):
        """A crowd pushes out only its own connections: hosts from before it, and hosts that come during it, are
        served."""
        os.chmod(self.directory.name, 0o755)
        self.start("attach_mode=0777", f"attach_uids=0,{NOBODY}")
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.settimeout(PATIENCE)
        pid = os.fork()
        if pid == 0:
            code = 1
            ours.close()
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                peers = []
                while theirs.recv(1) == b"g":
                    for peer in peers:
                        peer.close()
                    peers = [self.connect() for _ in range(500)]
                    theirs.sendall(b"here")
                code = 0 if len(peers) == 500 else 1
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            self.assertLess(time.monotonic(), deadline, "the crowd comes in time")
            began = time.monotonic()
            before = self.connect()
            ours.sendall(b"g")
            self.assertEqual(ours.recv(4), b"here")
            self.logged("too many connections have not sent a hello frame")
            peers = before, self.connect()
            welcomed = [self.welcomed(peer) for peer in peers]
            for peer in peers:
                peer.close()
            if all(welcomed):
                break
            # Whoever says nothing for five seconds is sent away in any case.
            self.assertGreater(time.monotonic() - began, 4, "they are welcome")
        ours.sendall(b"x")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.still_serves()

    def test_a_stranger(self):
        """As another user, if this user may change. Otherwise pushd refuses this user."""
        become = os.geteuid() == 0
        os.chmod(self.directory.name, 0o755)
        if not become:
            self.start_for(os.geteuid() + 1)
            self.turned_away()
            # The library is refused, too.
            self.refused(self.path, "the hub refuses: this user may not attach")
            return
        self.start("attach_mode=0777")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                self.turned_away()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.logged(f"user {NOBODY} (group {NOBODY}, process {pid}) may not attach")
        self.still_serves()

    def start_for(self, uid):
        self.host = None
        with open(self.log_path, "w") as log:
            self.pushd = subprocess.Popen([PUSHD, "-o", "listen=none", "-o", f"attach_listen=unix:{self.path}", "-o",
                                           f"attach_uids={uid}"], stderr=log)
        self.addCleanup(self.end)
        self.wait(lambda: "unix:" in self.log(), "it listens")

    def turned_away(self):
        for _ in range(100):
            said = self.let_go(self.attached_or_refused())
            self.assertIn(b"this user may not attach", said)

    def attached_or_refused(self):
        peer = self.connect()
        try:
            peer.sendall(hello())
        except (BrokenPipeError, ConnectionResetError):
            pass
        return peer


class Silence(Case):
    """Hosts that ask and do not read."""

    def test_answers_that_nobody_takes(self):
        self.start()
        peer = self.attached()
        before = self.memory()
        peer.settimeout(1)
        sent = 0
        requests = frame(STATS, bytes(8)) * 1000 + users(1) * 10
        try:
            while sent < 64 << 20:
                sent += peer.send(requests)
        except TimeoutError:
            pass
        self.assertLess(sent, 64 << 20, "it is not read from any more")
        self.host.publish("a", b"meanwhile")
        self.assertLess(self.memory() - before, 32 << 20)
        peer.close()
        self.still_serves()

    def test_questions_of_who_does_not_wait(self):
        self.start()
        for _ in range(200):
            peer = self.attached()
            peer.sendall(users(1) * 5)
            peer.close()
        self.still_serves()

    def test_events_that_nobody_takes(self):
        self.start(f"listen=unix:{self.directory.name}/listen.sock", "client_rate=0", "event_queue=16", "heartbeat=1h",
                   "message_timeout=1h")
        peer = self.attached()
        # It claims to have room for everything. Events of clients that come before the hub has read this are dropped.
        peer.sendall(frame(CREDIT, struct.pack("<I", 0xffffffff)) + frame(STATS, bytes(8)))
        unread = self.read_until(peer, ANSWERED_STATS)
        client = self.client(f"{self.directory.name}/listen.sock")
        before = self.memory()
        payload = os.urandom(30_000)
        message = b"\x82\xfe" + struct.pack(">H", len(payload)) + bytes(4) + payload
        client.settimeout(1)
        sent = 0
        try:
            while sent < 128 << 20:
                sent += client.send(message[sent % len(message):])
        except TimeoutError:
            pass
        self.assertLess(sent, 128 << 20, "the client is not read from any more")
        self.assertLess(self.memory() - before, 32 << 20)
        self.host.publish("a", b"meanwhile")
        # When it reads, everything comes.
        received = 0
        whole = sent // len(message)
        while received < whole:
            for one in self.frames(peer, unread):
                if one[0] == EVENT and one[1] == push.EVENT_MESSAGE:
                    self.assertTrue(one.endswith(payload))
                    received += 1
        client.close()
        peer.close()
        self.still_serves()

    def read_until(self, peer, kind):
        """Reads frames up to one of a kind. Returns the bytes that came behind it."""
        unread = bytearray()
        while True:
            self.read_more(peer, unread)
            while one := self.whole_frame(unread):
                if one[0] == kind:
                    return unread

    def frames(self, peer, unread):
        """Returns the frames that are whole, after it has read once if there are none. The rest stays in `unread`."""
        if not (first := self.whole_frame(unread)):
            self.read_more(peer, unread)
            first = self.whole_frame(unread)
        whole = []
        while first:
            whole.append(first)
            first = self.whole_frame(unread)
        return whole

    def read_more(self, peer, unread):
        part = peer.recv(1 << 20)
        self.assertTrue(part, "the hub goes on")
        unread += part

    @staticmethod
    def whole_frame(unread):
        """Takes the first frame, without its length, if it is whole."""
        if len(unread) < 4 or len(unread) < 4 + (length := struct.unpack("<I", unread[:4])[0]):
            return None
        one = bytes(unread[4:4 + length])
        del unread[:4 + length]
        return one

    def client(self, path):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(path)
        client.sendall(b"GET /push?channel=b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        self.assertIn(b" 101 ", head)
        return client


if __name__ == "__main__":
    unittest.main()
