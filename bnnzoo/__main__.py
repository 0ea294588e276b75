"""``python -m bnnzoo``: the command line."""

import sys

from bnnzoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
