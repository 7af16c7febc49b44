"""The same program with this build's library and with an earlier one: `make bench BEFORE=…/libpush.so`."""

import json
import os
import subprocess
from pathlib import Path

from . import paths

FOLDER = paths.RUN / "before"
TIMEOUT_S = 150


def _library():
    return Path(os.environ.get("BEFORE") or "/nowhere")


def absent():
    """Why there is nothing to compare with, or None."""
    return None if _library().is_file() else "BEFORE= names no libpush.so of an earlier build"


def _environment():
    """The dynamic linker looks into LD_LIBRARY_PATH before the path that the program has in itself."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    link = FOLDER / "libpush.so.0"
    link.unlink(missing_ok=True)
    link.symlink_to(_library().resolve())
    return {**os.environ, "LD_LIBRARY_PATH": str(FOLDER)}


def publishing(server, quick):
    """`publish alone`. Both are one binary: the calls that it makes are in both libraries."""
    words, environment = [str(paths.BIN / "publish"), "alone"], dict(os.environ)
    if server.name == "libpush-before":
        environment = _environment()
        # A run with the wrong library would show no difference, whatever there is. With this variable the dynamic
        # linker lists the libraries, and runs nothing.
        listing = {**environment, "LD_TRACE_LOADED_OBJECTS": "1"}
        listed = subprocess.run(words, env=listing, capture_output=True, text=True, timeout=TIMEOUT_S)
        if str(FOLDER) not in listed.stdout:
            return {"fault": f"the program does not take the library of {FOLDER}"}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if result.returncode:
        return {"fault": result.stderr.strip()[-200:] or f"status {result.returncode}"}
    return {**json.loads(result.stdout), "fault": None}
