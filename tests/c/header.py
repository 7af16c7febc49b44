"""The header compiles alone and twice, in every language that hosts are written in; its macros and functions work."""

from report import HERE, OUT, pkg_config

LANGUAGES = {
    "C90": ["gcc", "-std=c90"],
    "C99": ["gcc", "-std=c99"],
    "C11": ["gcc", "-std=c11"],
    "C17 with GNU": ["gcc", "-std=gnu17"],
    "C23": ["gcc", "-std=c2x"],
    "C++98": ["g++", "-std=c++98", "-x", "c++"],
    "C++11": ["g++", "-std=c++11", "-x", "c++"],
    "C++17": ["g++", "-std=c++17", "-x", "c++"],
    "C++20": ["g++", "-std=c++20", "-x", "c++"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def run(report, _only):
    for name, compiler in LANGUAGES.items():
        compile_as(report, name, compiler)


def compile_as(report, name, compiler):
    flags = pkg_config("--cflags")
    for times in ("alone", "twice"):
        source = OUT / f"{times}.c"
        source.write_text("#include <push.h>\n" * (2 if times == "twice" else 1))
        report.command(f"{name}: {times}", [*compiler, *WARNINGS, "-fsyntax-only", *flags, source])
    program = OUT / f"header-{name.replace(' ', '-')}"
    built = report.command(f"{name}: macros, numbers and layouts", [
        *compiler, *WARNINGS, "-o", program, HERE / "header.c", "-x", "none", *pkg_config("--cflags", "--libs")])
    if built is not None:
        report.command(f"{name}: linked and run", [program])
