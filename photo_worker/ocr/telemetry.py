"""What the engine's libraries tell others about the machine and what is read on it: nothing."""

from __future__ import annotations

import os

# ONNX Runtime 1.32 keeps an identifier of the machine in the user's cache folder, and events to send to Microsoft
# (seen in its wheel for Linux). The variable is its full opt-out outside of Windows (microsoft/onnxruntime#27379);
# the calls of its API come too late for the first event.
_SWITCH = "ORT_DISABLE_TELEMETRY"


def disable_onnxruntime_telemetry() -> None:
    """Switch ONNX Runtime's telemetry off. Call it before the first import of it, which decides for the process."""
    os.environ[_SWITCH] = "1"
