"""The command line: ``bnnzoo COMMAND``. Nothing heavy is imported before a command needs it."""

from bnnzoo.cli.main import main

__all__ = ["main"]
