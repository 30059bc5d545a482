import subprocess
import sys

PROGRAM = """
import logging, threading, warnings
from hilum.messages import log_own_words
log_own_words("%(levelname)s %(message)s")
logging.getLogger("pydicom").error("Planted^Name")
warnings.warn("Planted^Name")
threading.Thread(target=lambda: int("Planted^Name")).start()
"""


def test_neither_libraries_nor_errors_quote_what_they_read() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert said.stdout + said.stderr == "ERROR a thread ended with ValueError\n"
