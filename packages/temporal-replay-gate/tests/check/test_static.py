"""The static check refuses code that a replay cannot repeat, with its line, and no other code."""

from __future__ import annotations

import importlib
import secrets
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from temporal_replay_gate.static import StaticReport, check_workflows
from temporal_replay_gate.static_rules import REASONS


def module_head(definition: str = "@workflow.defn", handler: str = "") -> str:
    """Return the lines before the body of the workflow's run, with ``{package}`` for the package's name."""
    return f"""\
import asyncio
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from {{package}} import helpers


{definition}
class Sample:
{handler}    @workflow.run
    async def run(self, names: list[str]) -> object:
"""


Check = Callable[..., StaticReport]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Return a function that writes a package with one workflow, with the given body of ``run``, and checks it."""
    package = f"sample_{secrets.token_hex(6)}"
    directory = tmp_path / package
    directory.mkdir()
    (directory / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(body: str, *, helpers: str = "", head: str | None = None) -> StaticReport:
        (directory / "helpers.py").write_text(textwrap.dedent(helpers))
        (directory / "flow.py").write_text(
            (head or module_head()).format(package=package) + textwrap.indent(textwrap.dedent(body), " " * 8) + "\n"
        )
        importlib.invalidate_caches()
        return check_workflows([importlib.import_module(f"{package}.flow").Sample])

    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


REFUSED = [
    ("from datetime import datetime; return datetime.now()", "clock"),
    ("import datetime as d; return d.date.today()", "clock"),
    ("import time; return time.time()", "clock"),
    ("from time import monotonic as tick; return tick()", "clock"),
    ("import time; return time.gmtime()", "clock"),
    ("import time; clock = time.perf_counter; return clock()", "clock"),
    ("import random; return random.choice(names)", "random"),
    ("from random import Random; return Random()", "random"),
    ("import secrets; return secrets.token_hex()", "random"),
    ("import os; return os.urandom(4)", "random"),
    ("import uuid; return uuid.uuid4()", "uuid"),
    ("from uuid import uuid1; return uuid1()", "uuid"),
    ("return open('x')", "io"),
    ("from pathlib import Path; return Path('x').exists()", "io"),
    ("path = names[0]; return path.read_text()", "io"),
    ("import urllib.request; return urllib.request.urlopen('x')", "io"),
    ("import subprocess; return subprocess.run(['ls'])", "io"),
    ("import socket; return socket.gethostname()", "threads_or_io"),
    ("import os; return os.environ['HOME']", "process"),
    ("from os import getpid; return getpid()", "process"),
    ("import threading; threading.Thread(target=print).start()", "threads"),
    ("from concurrent.futures import ThreadPoolExecutor; return ThreadPoolExecutor()", "threads"),
    ("return await asyncio.to_thread(print)", "threads"),
    ("return await asyncio.get_running_loop().run_in_executor(None, print)", "threads"),
    ("return await asyncio.wait([])", "order"),
    ("return hash(names[0])", "hash"),
    ("return id(names)", "hash"),
    ("return workflow.unsafe.is_replaying()", "replaying"),
    ("global state\nstate = names", "global"),
]


@pytest.mark.parametrize(("body", "code"), REFUSED, ids=[body[:60] for body, _ in REFUSED])
def test_forbidden_call_is_reported_with_its_line(check: Check, body: str, code: str) -> None:
    finding, *_ = check("first = 1\n" + body).findings
    assert finding.code == code or (code == "threads_or_io" and finding.code in {"threads", "io"})
    assert finding.path.name == "flow.py"
    assert finding.line == module_head().count("\n") + 2
    assert f"flow.py:{finding.line}: [{finding.code}]" in str(finding)
    assert REASONS[finding.code][1] in str(finding)


ORDER = [
    "for name in set(names): print(name)",
    "for name in {'a', 'b'}: print(name)",
    "chosen = {name for name in names}\nfor name in chosen: print(name)",
    "chosen: frozenset[str] = frozenset(names)\nother = chosen | {'x'}\nreturn [name for name in other]",
    "return list(set(names))",
    "return ','.join(set(names))",
    "return set(names).pop()",
    "first, *rest = set(names)",
    "print(*set(names))",
    "await asyncio.gather(*{asyncio.sleep(1) for _ in names})",
    "return next(iter(set(names)))",
    "for key in dict.fromkeys(names).keys() - {'a'}: print(key)",
    "self.open = set(names)\nfor name in self.open: print(name)",
    "for name in set(names).union('a'): print(name)",
]


@pytest.mark.parametrize("body", ORDER)
def test_set_order_is_refused(check: Check, body: str) -> None:
    report = check(body)
    assert [finding.code for finding in report.findings] == ["order"]


ALLOWED = [
    "return workflow.now(), workflow.random().random(), workflow.uuid4()",
    "await asyncio.sleep(5)",
    "for name in sorted(set(names)): print(name)",
    "return len({*names}), 'a' in set(names), max(name for name in set(names))",
    "return {name: 1 for name in names}",
    "import uuid; return uuid.UUID(names[0]), uuid.uuid5(uuid.NAMESPACE_URL, 'x')",
    "from datetime import datetime, timedelta; return datetime.fromisoformat('2026-01-01') + timedelta(1)",
    "import random; return random.Random(7).random()",
    "import time; return time.gmtime(0)",
    "import os; return os.fspath('x'), os.path.join('a', 'b')",
    "from pathlib import PurePath; return PurePath('x').name",
    "time = workflow.time; return time()",
    "open = names.append; open('x')",
    "workflow.logger.info('x')",
    "async with asyncio.TaskGroup() as group: group.create_task(asyncio.sleep(1))",
    "for name in dict.fromkeys(names): print(name)",
]


@pytest.mark.parametrize("body", ALLOWED)
def test_deterministic_code_is_allowed(check: Check, body: str) -> None:
    assert check(body).findings == ()


class TestHelpers:
    @pytest.mark.parametrize(
        "helpers",
        [
            "def walk():\n    return list(kinds())\ndef kinds() -> set[str]: ...",
            "KINDS = {'a'}\ndef walk(): return [*KINDS]",
        ],
    )
    def test_helper_returning_set_is_refused_for_order(self, check: Check, helpers: str) -> None:
        assert [finding.code for finding in check("return helpers.walk()", helpers=helpers).findings] == ["order"]

    def test_helper_call_chain_is_followed(self, check: Check) -> None:
        report = check(
            "return helpers.outer()",
            helpers="""
            import time

            def outer():
                return inner()

            def inner():
                return time.time()

            def never():
                return time.time()
            """,
        )
        (finding,) = report.findings
        assert (finding.path.name, finding.line, finding.code) == ("helpers.py", 8, "clock")
        assert finding.via == ("Sample", "run", "outer", "inner")
        assert "reached by Sample -> run -> outer -> inner" in str(finding)

    def test_helper_passed_as_argument_is_checked(self, check: Check) -> None:
        helpers = "import random\ndef key(name): return random.random()"
        assert [f.code for f in check("return sorted(names, key=helpers.key)", helpers=helpers).findings] == ["random"]

    def test_helper_class_base_constructor_is_checked(self, check: Check) -> None:
        helpers = """
        import uuid

        class Base:
            def __init__(self):
                self.id = uuid.uuid4()

        class Made(Base):
            pass
        """
        assert [f.code for f in check("return helpers.Made()", helpers=helpers).findings] == ["uuid"]

    def test_helper_activity_is_not_checked(self, check: Check) -> None:
        helpers = """
        import time
        from temporalio import activity

        class Activities:
            @activity.defn
            def work(self) -> float:
                return time.time()
        """
        assert check("return helpers.Activities.work", helpers=helpers).findings == ()

    def test_helper_module_constant_is_checked_if_used(self, check: Check) -> None:
        helpers = "import time\nSTARTED = time.time()\nUNUSED = time.time()"
        assert [finding.line for finding in check("return helpers.STARTED", helpers=helpers).findings] == [2]

    def test_signal_handler_is_checked(self, check: Check) -> None:
        handler = (
            "    @workflow.signal\n    def told(self) -> None:\n        import time\n        self.at = time.time()\n\n"
        )
        report = check("return None", head=module_head(handler=handler))
        assert [(finding.code, finding.via) for finding in report.findings] == [("clock", ("Sample", "told"))]


def test_unsandboxed_workflow_is_refused(check: Check) -> None:
    head = module_head("@workflow.defn(sandboxed=False)")
    assert [finding.code for finding in check("return None", head=head).findings] == ["unsandboxed"]


class TestEscape:
    def test_escape_with_reason_permits_line(self, check: Check) -> None:
        body = "for name in set(names):  # replay-ok[order]: the loop only counts\n    print(name)"
        assert check(body).findings == ()

    def test_escape_permits_named_code_only(self, check: Check) -> None:
        body = "import time\nreturn time.time(), hash('x')  # replay-ok[hash]: of a number only, see above"
        assert [finding.code for finding in check(body).findings] == ["clock"]

    @pytest.mark.parametrize("comment", ["# replay-ok[order]", "# replay-ok[order]: fine"])
    def test_escape_without_reason_is_refused(self, check: Check, comment: str) -> None:
        (finding,) = check(f"for name in set(names):  {comment}\n    print(name)").findings
        assert (finding.code, finding.what) == ("escape", "replay-ok without a reason")

    def test_escape_unused_is_refused(self, check: Check) -> None:
        (finding,) = check("return None  # replay-ok[order]: there was a loop here once").findings
        assert (finding.code, finding.what) == ("escape", "replay-ok without use")


def test_class_without_source_is_unread() -> None:
    made = type("Made", (), {"__module__": "nowhere_at_all"})
    (finding,) = check_workflows([made]).findings
    assert finding.code == "unread"
    assert "not checked" in str(finding)
