"""``python -m leadline``."""

from leadline.cli import main

main(prog_name="leadline")
