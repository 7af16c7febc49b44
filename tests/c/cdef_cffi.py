"""A host in Python: python cdef_cffi.py push.cdef.h libpush.so"""

import json
import sys
import threading
import urllib.request
from pathlib import Path

import cffi

ffi = cffi.FFI()
ffi.cdef(Path(sys.argv[1]).read_text())
push = ffi.dlopen(sys.argv[2])

err = ffi.new("char[256]")
config = push.push_config_new()
assert push.push_config_set(config, b"colour", b"blue", err, len(err)) == push.PUSH_ERR_CONFIG
assert b"colour" in ffi.string(err)
assert push.push_config_set(config, b"listen", b"127.0.0.1:0", err, len(err)) == push.PUSH_OK, ffi.string(err)
assert push.push_config_set(config, b"log", b"pull", err, len(err)) == push.PUSH_OK, ffi.string(err)
server = ffi.new("push_server **")
assert push.push_start(config, server, err, len(err)) == push.PUSH_OK, ffi.string(err)
push.push_config_free(config)
server = server[0]

channel, data = ffi.new("char[]", b"news"), ffi.new("char[]", b"hello")
message = ffi.new("push_message *", {"size": ffi.sizeof("push_message"), "channel": channel, "data": data, "len": 5})
position = ffi.new("push_position *")
assert push.push_publish_message(server, message, position) == push.PUSH_OK
assert position.seq == 1 and ffi.string(position.text).endswith(b"-1")

address = ffi.new("char[128]")
assert push.push_listen_address(server, 0, address, len(address)) == push.PUSH_OK
url = f"http://{ffi.string(address).decode()}/push?channel=news&last=1"
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=120) as response:
    assert json.load(response)["messages"][0]["data"] == "hello"

stats = ffi.new("push_stats *")
assert push.push_stats_get(server, stats, ffi.sizeof("push_stats")) == push.PUSH_OK and stats.published == 1
# The log: a thread takes the lines until the stop has logged its last one. cffi releases the lock of Python meanwhile.
lines = []


def take():
    line = ffi.new("push_log_line *", {"size": ffi.sizeof("push_log_line")})
    while push.push_next_log(server, line, ffi.sizeof("push_log_line"), -1) == push.PUSH_OK:
        text = ffi.string(line.text).decode()
        # The environment may cause warnings.
        if text.startswith("listening") or text == "stopped":
            assert line.level == push.PUSH_LOG_INFO
        assert push.PUSH_LOG_ERROR <= line.level <= push.PUSH_LOG_DEBUG and line.time_ms > 0
        lines.append(text)
    assert push.push_next_log(server, line, ffi.sizeof("push_log_line"), -1) == push.PUSH_ERR_CLOSED
    push.push_log_line_clear(line)


log = threading.Thread(target=take)
log.start()
assert push.push_stop(server, 0) == push.PUSH_OK
log.join(120)
assert any(line.startswith("listening on ") for line in lines) and lines[-1] == "stopped", lines
assert push.push_publish(server, b"news", b"x", 1) == push.PUSH_ERR_CLOSED
print("ok")
