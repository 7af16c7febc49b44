#!/usr/bin/env python3
"""Measures libpush beside the floor and its peers; see README.md beside this file."""

import sys

if sys.version_info < (3, 10):
    sys.exit("run.py needs Python 3.10 or newer")

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
