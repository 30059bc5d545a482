"""Run a Python program whose wall clock is ahead by the seconds that a file says: set_clock.py FILE PROGRAM ARGUMENT"""

import runpy
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    ahead, told = Path(sys.argv[1]), time.time
    time.time = lambda: told() + float(ahead.read_text() or 0)
    del sys.argv[:2]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
