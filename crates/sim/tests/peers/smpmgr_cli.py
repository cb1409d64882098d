"""smpmgr's command line, one process for all commands: its start would take longer than a trial lasts.

smpmgr_cli.py PORT
"""

import os
import sys

os.environ["COLUMNS"] = "1000"  # So that smpmgr does not break its lines.

import desk
from typer.testing import CliRunner

PORT = sys.argv.pop(1)
# Seconds; a loaded machine is slow.
TIMEOUT = "30"

from smpmgr.main import app  # It looks at the arguments.


def run(arguments):
    """What `smpmgr ARGUMENTS` printed and how it ended; an error that it does not catch is what it says."""
    done = CliRunner().invoke(app, ["--port", PORT, "--timeout", TIMEOUT, *arguments])
    error = "" if done.exception is None else f"{done.exception!r}"
    return {"exit": done.exit_code, "output": done.output + error}


desk.serve({"run": run})
