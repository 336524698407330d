"""docs/how-to/containers-in-tests.md is true: its example runs, and its table is complete."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from tests.containers import fixtures
from tests.containers.engine import Engine, image_of

pytest_plugins = ["tests.containers.fixtures"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "containers-in-tests.md").read_text("utf-8")


def test_page_example_runs(docker_engine: Engine, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "test_example.py"
    file.write_text(example, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", "--rootdir", str(ROOT)]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml"), str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1 (passed|skipped)", done.stdout, re.MULTILINE), done.stdout


def test_page_table_lists_every_fixture_and_service() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", PAGE, re.MULTILINE))
    source = inspect.getsource(fixtures)
    given = set(re.findall(r'^@pytest\.fixture\(scope="module"\)\ndef (\w+)', source, re.MULTILINE))
    assert rows.keys() == given
    assert all(image_of(service) for service in rows.values())
