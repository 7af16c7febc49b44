#!/usr/bin/env python3
"""Measures libpush, the floor and the peers. README.md in this folder explains how."""

import sys

if sys.version_info < (3, 10):
    sys.exit("run.py needs Python 3.10 or newer")

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
