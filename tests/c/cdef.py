"""Tests push.cdef.h with three parsers that have no preprocessor, and with Ruby's Fiddle. Each host starts a server,
publishes, gets its message by a poll, stops, and pulls the log up to its last line."""

from report import HERE, ROOT, STAGE, execute

HOSTS = {
    "PHP's FFI": ["php", "-d", "ffi.enable=1", "cdef.php"],
    "LuaJIT's ffi": ["luajit", "cdef.lua"],
    "Ruby's Fiddle": ["ruby", "cdef.rb"],
    "cffi": [ROOT / "target/test-env/bin/python", "-B", "cdef_cffi.py"],
}


def run(report, _only):
    for name, command in HOSTS.items():
        code, output = execute([*command, STAGE / "include/push.cdef.h", STAGE / "lib/libpush.so"], 240, cwd=HERE)
        said = output.strip()
        what = f"{name}: a host reads push.cdef.h, publishes, receives and pulls the log"
        report.check(what, code == 0 and said == "ok", said, output)
