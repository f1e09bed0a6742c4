"""A process with little memory and time, for files that ask for much of both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMITED = """
import resource, sys, time
from pathlib import Path
from emoray.datasets.formats import matlab, plain_pickle
from emoray.vocabulary.schema import DataError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {allowed}, used + {allowed}))
for name in sys.argv[1:]:
    start = time.monotonic()
    try:
        {call}
        sys.exit(f"{{name}} was read")
    except DataError as error:
        print(name, "refused:", str(error)[-300:])
    seconds = time.monotonic() - start
    if seconds > 5:
        sys.exit(f"{{name}} took {{seconds:.1f}} s")
"""


def run_limited(call: str, paths: list[Path], *, allowed: int) -> list[str]:
    """What a process with little memory and time says of each file."""
    code = LIMITED.format(call=call, allowed=allowed)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()
