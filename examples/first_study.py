"""A whole study from Python: sample, read, analyse, report; what it found, and where the report is.

    python examples/first_study.py OUT_FOLDER

Give `models` your own names, and `prompts` a file of yours; docs/studies.md lists every key.
"""

from __future__ import annotations

import sys

import enaction

study = {
    "name": "first",
    "models": {"ash": "zoo:ash-rl", "birch": "zoo:birch-rl", "cedar": "zoo:cedar-rl"},
    "prompts": "zoo",
    "n_prompts": 24,
    "sampling": {"per_prompt": 1, "max_new_tokens": 60},
    "framings": ["assistant"],
}

if __name__ == "__main__":
    run = enaction.run(study, out=sys.argv[1] if len(sys.argv) > 1 else None)
    for finding in run.findings.select("interaction", framing="assistant"):
        interval = f"95 % {finding.low:+.3f} to {finding.high:+.3f}"
        print(f"{finding.where['reader']}: interaction {finding.estimate:+.3f} {finding.unit}, {interval}")
    print(f"report: {run.folder / 'report.html'}")
