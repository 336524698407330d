"""The environment of processes that parse hostile files: what Python needs to start, and no secrets."""

from __future__ import annotations

import os

# Exact names: a prefix such as LANG or HOME would also match other programs' keys, such as LangSmith's or Homebrew's.
_KEPT = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PATH",
        "PYTHONDEVMODE",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONFAULTHANDLER",
        "PYTHONHASHSEED",
        "PYTHONHOME",
        "PYTHONIOENCODING",
        "PYTHONMALLOC",
        "PYTHONNOUSERSITE",
        "PYTHONOPTIMIZE",
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "PYTHONUNBUFFERED",
        "PYTHONUSERBASE",
        "PYTHONUTF8",
        "PYTHONWARNINGS",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
        # Paths of the OCR engine's runtime and models if they are not in its wheels.
        "OCRUST_MODELS_DIR",
        "OCRUST_ORT_DYLIB",
        "ORT_DYLIB_PATH",
    }
)

# Locales, and the settings of the macOS dynamic linker.
_KEPT_PREFIXES = ("LC_", "DYLD_")


def child_environment() -> dict[str, str]:
    """Return the part of this process's environment that a child process gets."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
