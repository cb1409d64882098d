#!/usr/bin/env python3
"""Stands in for MCUboot's imgtool where a build system calls `python imgtool.py ARGUMENTS`.

Hands everything to `ampoule image`. Point Zephyr at it with -DIMGTOOL=.../scripts/imgtool.py (docs/imgtool.md).
The program is taken from the environment variable AMPOULE, otherwise from PATH.
"""

import os
import shutil
import subprocess
import sys


def main() -> int:
    program = os.environ.get("AMPOULE") or shutil.which("ampoule")
    if program is None:
        print("error: there is no ampoule in PATH. Install it, or set AMPOULE to its path.", file=sys.stderr)
        return 1
    try:
        return subprocess.call([program, "image", *sys.argv[1:]])
    except OSError as error:
        print(f"error: {program} cannot be run: {error.strerror}. Check AMPOULE.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
