"""Where the command line starts: its imports end at Ctrl-C as its work does."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from diffrelax.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
