"""`python -m wirebert.cli` and `torchrun -m wirebert.cli` run the command `wirebert`."""

import sys

from wirebert.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
