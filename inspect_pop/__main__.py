"""`python -m inspect_pop` is `inspect-pop`."""

import sys

from inspect_pop.cli import main

if __name__ == "__main__":
    sys.exit(main())
