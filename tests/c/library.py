"""The shared object: what it exports, what it needs, and how the loader treats it."""

import re

from report import HERE, ROOT, STAGE, execute

# The names from libc.so.6, libgcc_s.so.1 and the loader. The library may need nothing else.
NEEDED = {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# Only the host may change these: its signals, its processes, its directory, its environment, its end.
NOT_OURS = {
    "signal", "sigaction", "sigprocmask", "fork", "vfork", "execve", "execvp", "posix_spawn", "posix_spawnp", "system",
    "exit", "_exit", "quick_exit", "atexit", "setenv", "unsetenv", "putenv", "clearenv", "chdir", "fchdir", "chroot",
    "umask", "setrlimit", "setlocale", "setuid", "setgid", "dup2", "dup3", "alarm", "setitimer", "kill", "raise",
    "printf", "puts", "fprintf", "syslog", "mallopt",
}

# The only functions that may write to stderr, both of aws-lc: a wrong OPENSSL_ia32cap, and no memory for random numbers.
PRINTING = {"handle_cpu_env", "ensure_entropy_state_is_initd_once"}


def run(report, _only):
    library = STAGE / "lib" / "libpush.so"
    exports(report, library)
    dynamic(report, library)
    imports(report, library)
    segments(report, library)


def lines_of(command):
    code, output = execute(command)
    if code != 0:
        raise SystemExit(f"error: {' '.join(map(str, command))}: {output}")
    return output.splitlines()


def exports(report, library):
    found = sorted(line.split()[-1] for line in lines_of(["nm", "-D", "--defined-only", library]))
    listed = (HERE / "exports.txt").read_text().split()
    difference = [f"only in the library: {name}" for name in found if name not in listed]
    difference += [f"only in exports.txt: {name}" for name in listed if name not in found]
    report.check("the exported symbols are those of exports.txt", found == listed, "they differ", "\n".join(difference))
    report.check("exports.txt is sorted", listed == sorted(listed), "it is not")
    declared = sorted(set(re.findall(r"\b(push_\w+)\(", header_code())))
    report.check("the header declares what is exported, and no more", declared == listed,
                 f"different: {sorted(set(declared) ^ set(listed))}")


def header_code():
    """The header without comments."""
    text = (ROOT / "include" / "push.h").read_text()
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def dynamic(report, library):
    entries = "\n".join(lines_of(["readelf", "-dW", library]))
    soname = re.findall(r"\(SONAME\).*\[(.*)\]", entries)
    report.check("the soname is libpush.so.0", soname == ["libpush.so.0"], f"it is {soname}")
    stays = re.search(r"FLAGS_1\).*NODELETE", entries)
    report.check("dlclose does not unload it (NODELETE)", stays, "no such flag", entries)
    report.check("symbols are bound at load (NOW)", "NOW" in entries, "no such flag", entries)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", entries))
    report.check("it needs libc and libgcc_s only", needed <= NEEDED, f"it needs {sorted(needed - NEEDED)}")
    for unwanted in ("RPATH", "RUNPATH", "TEXTREL"):
        report.check(f"it has no {unwanted}", f"({unwanted})" not in entries, "it has", entries)


def imports(report, library):
    undefined = [line.split() for line in lines_of(["nm", "-D", "--undefined-only", library])]
    strong = [entry[-1] for entry in undefined if entry[0] != "w"]
    strangers = [name for name in strong if not re.search(r"@(GLIBC|GCC)_[\d.]+$", name)]
    report.check("all it imports is libc's and libgcc_s's", not strangers, ", ".join(strangers))
    bare = {name.partition("@")[0] for name in strong}
    bare -= {"fprintf"} if callers(library, "fprintf") <= PRINTING else set()
    report.check("it imports nothing that changes the host", not bare & NOT_OURS, ", ".join(sorted(bare & NOT_OURS)))


def callers(library, name):
    """The functions that mention an imported one, without the prefix with aws-lc's version."""
    found, function = set(), ""
    for line in lines_of(["objdump", "-d", "--no-show-raw-insn", library]):
        if begins := re.match(r"[0-9a-f]+ <(?:aws_lc_[0-9_]+_)?(.*)>:$", line):
            function = begins[1]
        elif f"<{name}@" in line and not function.startswith(f"{name}@"):
            found.add(function)
    return found


def segments(report, library):
    headers = "\n".join(lines_of(["readelf", "-lW", library]))
    stack = re.search(r"GNU_STACK.*", headers)
    report.check("it needs no executable stack", stack and " RWE " not in stack.group(0), "it does", headers)
    report.check("its tables are read-only after relocation", "GNU_RELRO" in headers, "no GNU_RELRO", headers)
