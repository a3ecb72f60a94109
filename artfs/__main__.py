"""``python -m artfs``: the command line."""

from artfs.cli import main

if __name__ == "__main__":
    main()
