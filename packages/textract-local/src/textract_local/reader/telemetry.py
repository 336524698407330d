"""Opt out of the telemetry of the engine's libraries."""

from __future__ import annotations

import os

# ONNX Runtime 1.32 stores an identifier of the machine in the user's cache directory, and events to send to Microsoft
# (seen in its wheel for Linux). The variable is its full opt-out outside of Windows (microsoft/onnxruntime#27379);
# the calls of its API come too late for the first event.
_SWITCH = "ORT_DISABLE_TELEMETRY"


def disable_onnxruntime_telemetry() -> None:
    """Switch ONNX Runtime's telemetry off. Call this before its first import, which decides for the whole process."""
    os.environ[_SWITCH] = "1"
