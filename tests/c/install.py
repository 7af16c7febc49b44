"""`make install` and `make uninstall`, and programs that find the installed tree by pkg-config and by CMake."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from report import HERE, OUT, ROOT, execute, pkg_config

WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def run(report, _only):
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    with tempfile.TemporaryDirectory(prefix="push-install-") as directory:
        staged(report, Path(directory) / "a staging root", version)
        prefix = Path(directory) / "prefix"
        if make(report, "make install with a PREFIX", "install", PREFIX=prefix):
            with_pkg_config(report, prefix, version)
            with_cmake(report, prefix, version)
            moved(report, prefix, Path(directory) / "moved")
            make(report, "make uninstall", "uninstall", PREFIX=prefix)
            report.check("uninstall leaves nothing", not files(prefix), f"it leaves {files(prefix)}")
            make(report, "make uninstall again", "uninstall", PREFIX=prefix)
        not_built(report, Path(directory))


def make(report, name, target, **variables):
    settings = [f"{variable}={value}" for variable, value in variables.items()]
    return report.command(name, ["make", "-s", "-f", "install.mk", target, *settings], cwd=ROOT) is not None


def files(directory):
    found = (path for path in directory.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(str(path.relative_to(directory)) for path in found)


def expected_files(libdir, version):
    names = ["libpush.so", "libpush.so.0", f"libpush.so.{version}", "pkgconfig/libpush.pc",
             "cmake/libpush/libpush-config.cmake", "cmake/libpush/libpush-config-version.cmake"]
    others = ["bin/pushctl", "bin/pushd", "include/push.h", "include/push.cdef.h", "lib/systemd/system/pushd.service", "lib/systemd/system/pushd.socket"]
    prefix = libdir.partition("/lib")[0]
    return sorted([f"{libdir}/{name}" for name in names] + [f"{prefix}/{name}" for name in others])


def staged(report, root, version):
    """For packages: everything is below DESTDIR, and no file has DESTDIR in it."""
    for libdir in ("/usr/lib", "/usr/lib/x86_64-linux-gnu"):
        name = f"LIBDIR={libdir}"
        where = {"DESTDIR": root, "PREFIX": "/usr", "LIBDIR": libdir}
        # A strict umask of root must not make files that others can't read.
        before = os.umask(0o077)
        made = make(report, f"make install with DESTDIR, {name}", "install", **where)
        os.umask(before)
        if not made:
            continue
        report.check(f"{name}: the files that should be there", files(root) == expected_files(libdir[1:], version),
                     f"they are {files(root)}")
        named = [name for name in files(root) if str(root) in (root / name).read_bytes().decode(errors="replace")]
        report.check(f"{name}: DESTDIR stands in no file", not named, f"it stands in {named}")
        modes = {path: oct((root / path).stat().st_mode & 0o777) for path in files(root)}
        readable = all(mode in ("0o644", "0o755") for mode in modes.values())
        report.check(f"{name}: everybody may read them", readable, modes)
        service = (root / "usr/lib/systemd/system/pushd.service").read_text()
        report.check(f"{name}: the unit starts the installed pushd", "/usr/bin/pushd" in service and "@BINDIR@" not in
                     service, "it does not", service)
        pc = (root / libdir[1:] / "pkgconfig" / "libpush.pc").read_text()
        relative = f"libdir=${{prefix}}{libdir[4:]}\n"
        report.check(f"{name}: pkg-config's file", relative in pc and "@" not in pc, "it is", pc)
        make(report, f"make uninstall with DESTDIR, {name}", "uninstall", **where)
        report.check(f"{name}: uninstall leaves nothing", not files(root), f"it leaves {files(root)}")


def with_pkg_config(report, prefix, version):
    program = OUT / "consumer"
    report.check("pkg-config: the version", pkg_config("--modversion", prefix=prefix) == [version], "another one")
    built = report.command("pkg-config: a program is built", [
        "gcc", *WARNINGS, "-o", program, HERE / "consumer.c", *pkg_config("--cflags", "--libs", prefix=prefix)])
    if built is None:
        return
    output = report.command("pkg-config: and runs", [program])
    report.check("pkg-config: with this library", output == f"{version} success\n", f"it says {output}")
    code, output = execute(["ldd", program])
    report.check("it is linked by soname", "libpush.so.0 => " + str(prefix) in output, "no such line", output)


def with_cmake(report, prefix, version):
    minor = ".".join(version.split(".")[:2])
    for wanted, good in ((minor, True), (version, True), ("", True), ("0.99", False), ("9", False)):
        project, build = OUT / "cmake", OUT / "cmake" / "build"
        shutil.rmtree(project, ignore_errors=True)
        build.mkdir(parents=True)
        (project / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.13)\nproject(consumer C)\n"
            f"find_package(libpush {wanted} REQUIRED CONFIG)\n"
            f"add_executable(consumer {HERE}/consumer.c)\ntarget_link_libraries(consumer libpush::libpush)\n")
        configure = ["cmake", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}"]
        name = f"CMake: find_package(libpush{' ' * bool(wanted)}{wanted})"
        if not good:
            code, output = execute(configure)
            report.check(f"{name} is refused", code == 1 and "libpush" in output, f"exit code {code}", output)
        elif report.command(name, configure) is not None and wanted == minor:
            if report.command("CMake: a program is built", ["cmake", "--build", build]) is not None:
                report.command("CMake: and runs", [build / "consumer"])


def moved(report, prefix, elsewhere):
    """The paths of CMake's package are relative, so a tree may be unpacked anywhere."""
    shutil.copytree(prefix, elsewhere, symlinks=True)
    project, build = OUT / "cmake", OUT / "cmake" / "moved"
    configure = ["cmake", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={elsewhere}"]
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(consumer C)\nfind_package(libpush REQUIRED CONFIG)\n"
        f"add_executable(consumer {HERE}/consumer.c)\ntarget_link_libraries(consumer libpush::libpush)\n")
    if report.command("CMake: a tree that was moved is found", configure) is not None:
        built = report.command("CMake: built with it", ["cmake", "--build", build])
        _, output = execute(["ldd", build / "consumer"])
        report.check("CMake: and linked with it", built is not None and str(elsewhere) in output, "another one", output)
    shutil.rmtree(elsewhere)


def not_built(report, directory):
    for what in ("LIBRARY", "PUSHD", "PUSHCTL"):
        code, output = execute(["make", "-s", "-f", "install.mk", "install", f"PREFIX={directory}/x",
                                f"INSTALL_{what}={directory}/none"], cwd=ROOT)
        said = code == 2 and f"{directory}/none is missing: run make first" in output
        report.check(f"make install without {what.lower()} says what to do", said, f"exit code {code}", output)
        report.check(f"make install without {what.lower()} installs nothing", not (directory / "x").exists(), "it did")
