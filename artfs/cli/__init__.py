"""The command line: a module for each group of commands, and the only room that knows click and the terminal.

Heavy modules (the volume, rich, FUSE) are imported by the commands that need them.
"""

from artfs.cli.main import main

__all__ = ["main"]
