"""Defaults of options, in a module that imports nothing."""

COMMAND = "replay-gate"
CONVERTER = "temporalio.converter:DataConverter.default"
ALLOW_LIST = "allowed_drift.toml"
HISTORIES = "tests/replay/histories"
