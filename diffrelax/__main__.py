"""Entry point of the command line: Ctrl-C during imports ends it quietly too."""

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
