"""One request per line on standard input, one answer per line on standard output, both JSON.

A request is {"do": NAME, ...}. An answer is {"ok": RESULT}, or {"refused": TEXT} with what the client said.
The client's own output goes elsewhere, so that nothing stands between the answers.
"""

import json
import sys


def serve(commands):
    """Answers until the input ends. `commands` maps names to functions of the request's other members."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        command = commands[request.pop("do")]
        try:
            answer = {"ok": command(**request)}
        except Exception as error:  # Whatever a client raises is its answer.
            answer = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
