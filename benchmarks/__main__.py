"""`python -m benchmarks [--rounds N]`: the output head, reading end to end, and sampling, each in a fresh process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

for name in ("head", "end_to_end", "sampling"):
    if importlib.util.find_spec(f"benchmarks.{name}") is not None:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)
