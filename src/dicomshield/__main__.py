"""Run the command line: ``python -m dicomshield``."""

from .cli import main

main()
