"""`python -m ragkit`."""

from ragkit.cli import run

if __name__ == "__main__":
    run()
