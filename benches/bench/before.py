"""The same program with this build's library and with an earlier one: `make bench BEFORE=…/libpush.so`."""

import json
import os
import subprocess
from pathlib import Path

from . import paths
from .process import ServerError

FOLDER = paths.RUN / "before"
TIMEOUT_S = 150


def _library():
    return Path(os.environ.get("BEFORE") or "/nowhere")


def absent():
    """Why there is nothing to compare with, or None."""
    return None if _library().is_file() else "BEFORE= names no libpush.so of an earlier build"


def command(words):
    """Runs a program of benches/load with the earlier library. The calls that it makes are in both. The dynamic linker
    looks into LD_LIBRARY_PATH before the path that the program has in itself."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    link = FOLDER / "libpush.so.0"
    link.unlink(missing_ok=True)
    link.symlink_to(_library().resolve())
    words = ["env", f"LD_LIBRARY_PATH={FOLDER}", *map(str, words)]
    # A run with the wrong library would show no difference, whatever there is. With this variable the dynamic linker
    # lists the libraries, and runs nothing.
    listing = [*words[:2], "LD_TRACE_LOADED_OBJECTS=1", words[2]]
    listed = subprocess.run(listing, capture_output=True, text=True, timeout=TIMEOUT_S)
    if str(link) not in listed.stdout:
        raise ServerError(f"{words[2]} does not take {link}: {(listed.stderr or listed.stdout).strip()[:200]}")
    return words


def publishing(server, quick):
    """`publish alone`, which measures push_publish on its caller."""
    words = [str(paths.BIN / "publish"), "alone"]
    try:
        words = command(words) if server.name == "libpush-before" else words
        result = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (ServerError, subprocess.TimeoutExpired) as error:
        return {"fault": str(error)[:300]}
    if result.returncode:
        return {"fault": result.stderr.strip()[-200:] or f"status {result.returncode}"}
    return {**json.loads(result.stdout), "fault": None}
