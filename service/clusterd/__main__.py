"""`python -m clusterd`, for those who name the interpreter: the same as `clusterd`."""

import sys

from clusterd.cli.clusterd import main

if __name__ == "__main__":
    sys.exit(main())
