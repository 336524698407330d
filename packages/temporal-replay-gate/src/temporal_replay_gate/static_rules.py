"""Dotted names that workflow code may not use.

The list starts from the names that Temporal's sandbox refuses at run time
(``SandboxRestrictions.invalid_module_members_default``), so that the list of a newer SDK applies as soon as
it is installed. The sandbox checks neither modules that are passed through nor names that it cannot
replace; those are added here.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.worker.workflow_sandbox import SandboxMatcher, SandboxRestrictions

# For each code, the text of a finding: why the use breaks a replay, and what to write instead.
REASONS: dict[str, tuple[str, str]] = {
    "clock": ("a replay reads another time than the first run did", "use workflow.now() or workflow.time()"),
    "random": ("a replay draws other numbers than the first run did", "use workflow.random()"),
    "uuid": ("a replay makes another id than the first run did", "use workflow.uuid4()"),
    "io": ("what it reads or writes is not in the history, so a replay may go another way", "move it to an activity"),
    "process": ("another worker has another environment and other ids", "pass the value in the workflow's input"),
    "threads": (
        "threads and processes run in an order that no history keeps",
        "use activities, or asyncio tasks of the workflow's own loop",
    ),
    "order": (
        "the order in which it ends or walks differs from process to process",
        "use workflow.wait or workflow.as_completed, or sorted(...) for a set",
    ),
    "hash": ("hashes of strings and addresses of objects differ from process to process", "use hashlib or a key"),
    "replaying": (
        "a branch that only a first run or only a replay takes issues other commands",
        "use workflow.logger, which keeps silent by itself",
    ),
    "global": ("module state is shared by all runs of a worker and lost with it", "keep state on the workflow's self"),
    "unsandboxed": ("outside the sandbox nothing stops what this list misses", "leave sandboxed=False out"),
}

_BY_MODULE = {
    "datetime": "clock",
    "time": "clock",
    "random": "random",
    "secrets": "random",
    "uuid": "uuid",
    "os": "process",
    "platform": "process",
    "getpass": "process",
    "locale": "process",
    "sys": "process",
    "concurrent": "threads",
    "multiprocessing": "threads",
    "threading": "threads",
    "sched": "threads",
    "signal": "threads",
    "asyncio": "order",
}

# The sandbox's list lacks these names, or has them only for a worker's run time.
_ADDED = {
    "_thread.*": "threads",
    "aiohttp.*": "io",
    "asyncio.create_subprocess_exec": "io",
    "asyncio.create_subprocess_shell": "io",
    "asyncio.open_connection": "io",
    "asyncio.run": "threads",
    "asyncio.start_server": "io",
    "asyncio.to_thread": "threads",
    "boto3.*": "io",
    "botocore.*": "io",
    "codecs.open": "io",
    "httpx.*": "io",
    "io.open": "io",
    "io.open_code": "io",
    "numpy.random.*": "random",
    "os.urandom": "random",
    "psycopg.*": "io",
    "psycopg_pool.*": "io",
    "requests.*": "io",
    "secrets.SystemRandom": "random",
    "random.SystemRandom": "random",
    "sqlalchemy.*": "io",
    "sqlite3.*": "io",
    "sys.argv": "process",
    "sys.stdin": "io",
    "tempfile.*": "io",
    "temporalio.workflow.unsafe.is_replaying": "replaying",
    "temporalio.workflow.unsafe.is_replaying_history_events": "replaying",
    "threading.*": "threads",
    "time.clock_gettime": "clock",
    "time.clock_gettime_ns": "clock",
    "urllib.request.*": "io",
    "urllib3.*": "io",
    "uuid.getnode": "uuid",
    "uuid.uuid1": "uuid",
    "uuid.uuid4": "uuid",
    "uuid.uuid6": "uuid",
    "uuid.uuid7": "uuid",
    "webbrowser.*": "io",
}

# Built-in functions, which need no import.
BUILTINS = {"open": "io", "input": "io", "breakpoint": "io", "hash": "hash", "id": "hash"}

# These read the clock or the system's entropy only if they are called without an argument.
WITHOUT_ARGUMENTS = {
    "random.Random": "random",
    "time.asctime": "clock",
    "time.ctime": "clock",
    "time.gmtime": "clock",
}

# Methods whose name tells the effect, whatever the type of the object.
METHODS = {
    "read_bytes": "io",
    "read_text": "io",
    "run_in_executor": "threads",
    "write_bytes": "io",
    "write_text": "io",
}

# Allowed names in modules that are refused otherwise.
_HARMLESS = {"os.PathLike", "os.fspath", "os.path", "os.sep", "os.stat_result"}


@dataclass(frozen=True)
class StaticRules:
    """Refused dotted names with their codes: single names in ``exact``, and in ``whole`` modules with all members."""

    exact: dict[str, str]
    whole: dict[str, str]

    def code_of(self, dotted: str) -> str | None:
        """Return the code under which ``dotted`` is refused, or None."""
        if any(dotted == name or dotted.startswith(f"{name}.") for name in _HARMLESS):
            return None
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            head = ".".join(parts[:length])
            if head in self.exact:
                return self.exact[head]
            if length < len(parts) and head in self.whole:
                return self.whole[head]
        return None


def load_rules() -> StaticRules:
    """Return the SDK's list with the additions."""
    exact: dict[str, str] = {}
    whole: dict[str, str] = {}
    _collect(SandboxRestrictions.invalid_module_members_default, (), exact, whole)
    for name, code in _ADDED.items():
        if name.endswith(".*"):
            whole[name.removesuffix(".*")] = code
        else:
            exact[name] = code
    return StaticRules(exact, whole)


def _collect(matcher: SandboxMatcher, path: tuple[str, ...], exact: dict[str, str], whole: dict[str, str]) -> None:
    dotted = ".".join(path)
    if path and path[0] == "__builtins__":
        return
    code = _BY_MODULE.get(path[0], "io") if path else "io"
    if path and matcher.match_self:
        exact[dotted] = code
    for name in matcher.use | matcher.access:
        if name == "*":
            whole[dotted] = code
        else:
            exact[f"{dotted}.{name}"] = code
    for name, child in matcher.children.items():
        if name == "__call__":
            exact[dotted] = code
        else:
            _collect(child, (*path, name), exact, whole)
