"""What holds for every test: the reference edition, one thread a worker, no network, no window, no
run folder in the working tree.
"""

import os
import sys

# Before anything imports torch, matplotlib or Ultralytics. Kernels, servers and commands that tests
# start inherit these.
os.environ.setdefault("YOLOSTUDY_USE", "reference")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # for tests that ask for more threads
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
# As on a learner's machine; some build machines set it, and every process then compiles what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
