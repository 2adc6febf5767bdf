"""The entry point of `clusterd`. It blocks signals before it imports anything that takes time."""

import sys

from clusterd.linux.early_signals import hold_signals


def main() -> int:
    """Run the command and return the exit status."""
    if sys.argv[1:] == ["--version"]:
        from clusterd.http.compilation import version_line

        print(version_line())
        return 0
    hold_signals()
    # Imported only now: the import takes a hundred milliseconds, in which an unblocked signal would end the process.
    from clusterd.cli.command import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
