"""Servers of the log: redis-server and nats-server, as children in folders of their own, on free ports."""

import contextlib
import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from host import PATIENCE, ROOT, free_port

NATS_SERVER = ROOT / "target/test-env/bin/nats-server"


class Server:
    """A process that can be killed and started again."""

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.name = name
        self._process = None

    def _spawn(self, command):
        with open(self.folder / "log", "a") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._process = subprocess.Popen(command, cwd=self.folder, **streams)
        deadline = time.monotonic() + PATIENCE
        while not self.is_up():
            assert self._process.poll() is None, f"{self.name} has ended: {(self.folder / 'log').read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name} does not start"
            time.sleep(0.02)

    def send_signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


class Redis(Server):
    def __init__(self, folder, name, *options, addresses=("127.0.0.1",)):
        super().__init__(folder, name)
        self.port = free_port()
        self._command = [
            "redis-server", "--port", str(self.port), "--bind", *addresses, "--protected-mode", "no", "--save", "",
            "--daemonize", "no", "--dir", str(self.folder), "--repl-diskless-sync-delay", "0", *options,
        ]  # fmt: skip
        self.start()

    def start(self, *options):
        self._spawn([*self._command, *options])

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def is_up(self):
        with contextlib.suppress(OSError, AssertionError):
            return self.ask("PING") == "PONG"
        return False

    def ask(self, *words):
        """Asks something that must work, and that has a short answer."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            text = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(text.encode())
            answer = connection.makefile("rb")
            line = answer.readline().decode().rstrip()
            assert not line.startswith("-"), f"{words}: {line}"
            return answer.read(int(line[1:])).decode() if line.startswith("$") and line != "$-1" else line[1:]

    def info(self, name):
        lines = dict(line.split(":", 1) for line in self.ask("INFO").splitlines() if ":" in line)
        return lines.get(name)

    def follow(self, master):
        """Becomes a replica, and waits until it has everything."""
        self.ask("REPLICAOF", "127.0.0.1", str(master.port))
        self.await_link()

    def await_link(self):
        deadline = time.monotonic() + PATIENCE
        while self.info("master_link_status") != "up":
            assert time.monotonic() < deadline, "the replica does not follow"
            time.sleep(0.05)

    def stop_following(self):
        """Stays a replica, and gets nothing any more."""
        self.ask("REPLICAOF", "127.0.0.1", "1")

    def promote(self):
        self.ask("REPLICAOF", "NO", "ONE")

    def dump(self):
        """Writes a dump, and keeps it aside."""
        self.ask("SAVE")
        shutil.copy(self.folder / "dump.rdb", self.folder / "kept.rdb")

    def restart(self, with_dump):
        self.kill()
        (self.folder / "dump.rdb").unlink(missing_ok=True)
        if with_dump:
            shutil.copy(self.folder / "kept.rdb", self.folder / "dump.rdb")
        self.start()


class Nats(Server):
    """One server of a cluster with JetStream."""

    def __init__(self, folder, name, route, routes):
        super().__init__(folder, name)
        self.port, self.monitor = free_port(), free_port()
        routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        (self.folder / "conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self.monitor}"\nserver_name: {name}\n'
            f'jetstream {{ store_dir: "{self.folder}/store" }}\n'
            f'cluster {{ name: tests, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
        )
        self.start()

    def start(self):
        self._spawn([NATS_SERVER, "--config", str(self.folder / "conf")])

    def is_up(self):
        return self.look("/varz") is not None

    def look(self, path):
        """What its monitoring says. None: nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor, timeout=5)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def stream(self, name):
        """What it knows of the servers of a stream: the leader's name, and whether all of them have all of it."""
        found = self.look("/jsz?streams=true&config=true") or {}
        for account in found.get("account_details", []):
            for stream in account.get("stream_detail", []):
                cluster = stream.get("cluster") or {}
                if stream["name"] == name and cluster.get("leader"):
                    replicas = cluster.get("replicas") or []
                    return cluster["leader"], len(replicas) == 2 and all(
                        replica.get("current") and not replica.get("offline") for replica in replicas
                    )
        return None, False

    def request(self, subject):
        """Asks JetStream something, over the protocol of NATS."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            lines = connection.makefile("rb")
            lines.readline()
            connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB answer 1\r\n')
            connection.sendall(f"PUB {subject} answer 0\r\n\r\n".encode())
            while True:
                line = lines.readline()
                assert line, "the server has ended the connection"
                if line.startswith(b"PING"):
                    connection.sendall(b"PONG\r\n")
                elif line.startswith(b"MSG"):
                    return json.loads(lines.read(int(line.split()[-1])))


class NatsCluster:
    def __init__(self, folder):
        routes = [free_port() for _ in range(3)]
        self.servers = [Nats(folder, f"n{at}", route, routes) for at, route in enumerate(routes)]

    def url(self):
        return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers) + "/?replicas=3"

    def leader(self, name, whole=True):
        """The server that leads a stream; with `whole`, once all servers have all of it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for server in self.servers:
                leader, is_whole = server.stream(name)
                if leader == server.name and (is_whole or not whole):
                    return server
            assert time.monotonic() < deadline, f"nobody leads {name}"
            time.sleep(0.1)

    def kill(self):
        for server in self.servers:
            server.kill()
