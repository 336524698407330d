"""The replay gate: checks before a deploy that workflow code replays the histories of earlier code."""

__version__ = "0.1.0"
