"""Lets `python -m wirebert` and `torchrun -m wirebert` be the command `wirebert`."""

import sys

from wirebert.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
