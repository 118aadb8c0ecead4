"""What all tests share."""

from __future__ import annotations

import os

# Tiny models cost less than sharing them out among threads: the reader's tests take a sixth of the processor time.
# Set before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
