"""Run pipelines from a shell: the program ``anabranch``."""

from anabranch.cli._app import main

__all__ = ["main"]
