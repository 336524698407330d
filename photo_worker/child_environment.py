"""What the processes that parse hostile files get of the environment: what a Python needs to start, and no secrets."""

from __future__ import annotations

import os

# Exact names: behind a prefix such as LANG or HOME there are keys of other programs, as of LangSmith and Homebrew.
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
        # Where the text engine finds its runtime and its models, where that is not in their wheels.
        "OCRUST_MODELS_DIR",
        "OCRUST_ORT_DYLIB",
        "ORT_DYLIB_PATH",
    }
)

# Locales, and what the linker of macOS is told.
_KEPT_PREFIXES = ("LC_", "DYLD_")


def child_environment() -> dict[str, str]:
    """Return what such a process is given of this one's environment."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
