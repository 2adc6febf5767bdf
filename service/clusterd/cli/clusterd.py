"""`clusterd`: the entry point, which holds signals back before it imports anything that takes time."""

import sys

from clusterd.linux.early_signals import hold_signals


def main() -> int:
    """Run the command; the exit status."""
    hold_signals()
    # Only now: it takes a hundred milliseconds, in which a signal would end the process without a word.
    from clusterd.cli.command import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
