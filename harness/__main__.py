"""The command `harness`, and `python -m harness`: Ctrl-C is answered while the rest still loads."""

import sys


def main() -> None:
    """See `harness.cli.app.main`."""
    try:
        from harness.cli.app import main as verbs

        verbs()
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
