"""`python -m hilum` is `hilum`."""

from hilum.cli import main

main()
