"""The format of the messages between a process and its reading processes."""

from __future__ import annotations

import struct

HEAD = struct.Struct(">II")
"""The start of each message: the lengths of its JSON header and of its body, in bytes."""
