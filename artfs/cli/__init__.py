"""The command line: a module for each group of commands, and the only room that knows click and the terminal.

Imports what is heavy (the volume, rich, the mount) only where a command needs it.
"""

from artfs.cli.main import main

__all__ = ["main"]
