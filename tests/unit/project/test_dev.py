"""dev.py on separate checkouts: the first call, further calls, and calls after a failure."""

from __future__ import annotations

import ast
import fcntl
import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.project.checkout import ROOT, Checkout, make_checkout

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ensurepip") is None, reason="making environments over and over needs ensurepip"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = make_checkout(tmp_path_factory.mktemp("dev") / "a checkout")
    first = made.run("run", "show", "a b")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("photo-worker show a b\ntinydep 1.0 prefix")
    assert "making .venv" in first.stderr
    return made


@pytest.fixture
def checkout(prepared: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the prepared checkout for one test. Environments hold absolute paths, which are replaced."""
    root = tmp_path / "own"
    shutil.copytree(prepared.root, root, symlinks=True)
    scripts = [path for path in (root / ".venv" / "bin").iterdir() if not path.is_symlink()]
    links = (root / ".venv" / "lib").glob("python*/site-packages/tiny_checkout.pth")
    for path in [*scripts, *links, root / ".venv" / "photo-worker-env.json"]:
        path.write_bytes(path.read_bytes().replace(bytes(prepared.root), bytes(root)))
    return Checkout(root)


class RecordedSetup:
    """dev.py on a checkout, with its slow steps recorded instead of executed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkout = make_checkout(root)
        self.steps: list[str] = []
        module = runpy.run_path(str(self.checkout.root / "dev.py"))
        self.environment = module["Environment"](root)
        monkeypatch.setattr(self.environment, "create", self._create)
        monkeypatch.setattr(self.environment, "pip", lambda: ["pip"])
        monkeypatch.setattr(self.environment, "install", self._install)

    def _create(self) -> None:
        self.steps.append("create")
        self.environment.bin.mkdir(parents=True, exist_ok=True)
        self.environment.python.touch()

    def _install(self, _pip: list[str], _total: int, *arguments: str) -> None:
        assert not self.checkout.marker.exists(), "an interruption now would go unseen"
        self.steps.append(arguments[-1])

    def call(self, requirements: str = "requirements-devkit.txt") -> list[str]:
        """Return the steps of one call."""
        self.steps.clear()
        self.environment.ensure(requirements)
        return list(self.steps)


@pytest.fixture
def rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSetup:
    made = RecordedSetup(tmp_path / "own", monkeypatch)
    assert made.call() == ["create", "requirements-devkit.txt", "."]
    assert made.call() == []
    return made


@pytest.mark.parametrize("change", [{"python": [3, 9]}, {"base": "/nowhere"}, {"venv": "/elsewhere/.venv"}])
def test_dev_env_of_another_python_or_place_is_rebuilt(rehearsal: RecordedSetup, change: dict[str, object]) -> None:
    marker = rehearsal.checkout.marker
    marker.write_text(json.dumps(json.loads(marker.read_text(encoding="utf-8")) | change), encoding="utf-8")
    assert rehearsal.call() == ["create", "requirements-devkit.txt", "."]
    assert rehearsal.call() == []


@pytest.mark.parametrize("text", ["", "[]", '{"python"', "\x00"])
def test_dev_unreadable_marker_rebuilds_env(rehearsal: RecordedSetup, text: str) -> None:
    rehearsal.checkout.marker.write_text(text, encoding="utf-8")
    assert rehearsal.call()[0] == "create"


def test_dev_env_without_its_python_is_rebuilt(rehearsal: RecordedSetup) -> None:
    rehearsal.environment.python.unlink()
    assert rehearsal.call()[0] == "create"


def test_dev_changed_pyproject_reinstalls_in_place(rehearsal: RecordedSetup) -> None:
    with (rehearsal.checkout.root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert rehearsal.call() == ["requirements-devkit.txt", "."]


def test_dev_full_env_is_kept_when_less_is_required(rehearsal: RecordedSetup) -> None:
    assert rehearsal.call("requirements-dev.txt") == ["requirements-dev.txt", "."]
    assert rehearsal.call("requirements-devkit.txt") == []
    rehearsal.checkout.require("2.0", file="requirements-dev.txt")
    assert rehearsal.call("requirements-devkit.txt") == ["requirements-dev.txt", "."]


def test_dev_second_call_changes_nothing_and_needs_no_pip(checkout: Checkout) -> None:
    for found in (checkout.venv / "lib").glob("python*/site-packages/pip"):
        shutil.rmtree(found)
    second = checkout.run("demo", "--json")
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("photo-worker demo --json\n")
    assert second.stderr == ""


def test_dev_interrupted_install_rebuilds_env(checkout: Checkout) -> None:
    checkout.marker.unlink()
    (checkout.venv / "half").touch()
    again = checkout.run("run")
    assert again.returncode == 0, again.stderr
    assert "removing the old .venv" in again.stderr
    assert not (checkout.venv / "half").exists()
    assert checkout.marker.exists()


def test_dev_changed_requirements_update_env_in_place(checkout: Checkout) -> None:
    checkout.require("2.0")
    (checkout.venv / "kept").touch()
    updated = checkout.run("run")
    assert "tinydep 2.0" in updated.stdout
    assert (checkout.venv / "kept").exists()


def test_dev_test_env_serves_demo_and_nox(checkout: Checkout) -> None:
    tests = checkout.run("test", "-k", "hash")
    assert tests.stdout.startswith(f"nox --noxfile {checkout.root / 'noxfile.py'} --session tests -- -k hash\n")
    assert checkout.run("demo").stderr == ""
    assert checkout.run("nox", "--list").stderr == ""


def test_dev_wheel_with_wrong_hash_is_refused(checkout: Checkout) -> None:
    checkout.require("2.0", digest="0" * 64)
    refused = checkout.run("run")
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not checkout.marker.exists()


def test_dev_foreign_venv_directory_is_kept(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "own")
    checkout.venv.mkdir()
    (checkout.venv / "diary.txt").write_text("mine", encoding="utf-8")
    refused = checkout.run("run")
    assert refused.returncode == 1
    assert "no virtual environment" in refused.stderr
    assert (checkout.venv / "diary.txt").read_text(encoding="utf-8") == "mine"


def test_dev_pip_variables_are_ignored(checkout: Checkout, tmp_path: Path) -> None:
    checkout.require("2.0")
    done = checkout.run("run", PIP_USER="1", PIP_TARGET=str(tmp_path / "elsewhere"), PIP_REQUIRE_VIRTUALENV="1")
    assert "tinydep 2.0" in done.stdout, done.stderr
    assert not (tmp_path / "elsewhere").exists()


def hide(directory: Path, *modules: str) -> Path:
    """Return a launcher that hides modules from dev.py, as on a distribution that leaves them out."""
    launcher = directory / "launcher.py"
    launcher.write_text(
        f"""
import importlib.util, runpy, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {modules!r} else found(name, package)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
""",
        encoding="utf-8",
    )
    return launcher


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this interpreter has no pip to stand outside")
def test_dev_without_ensurepip_uses_outer_pip(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "own")
    done = checkout.run("run", launcher=hide(tmp_path, "ensurepip"))
    assert done.returncode == 0, done.stderr
    assert "tinydep 1.0" in done.stdout
    assert not list((checkout.venv / "lib").glob("python*/site-packages/pip"))


@pytest.mark.parametrize("missing", [("pip", "ensurepip"), ("venv",)])
def test_dev_without_pip_or_venv_names_package_to_install(tmp_path: Path, missing: tuple[str, ...]) -> None:
    checkout = make_checkout(tmp_path / "own")
    refused = checkout.run("run", launcher=hide(tmp_path, *missing))
    assert refused.returncode == 1
    assert "apt install python3-venv" in refused.stderr
    assert not checkout.venv.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_dev_read_only_checkout_reports_permission(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "own")
    checkout.root.chmod(0o555)
    refused = checkout.run("run")
    checkout.root.chmod(0o755)
    assert refused.returncode == 1
    assert f"{checkout.venv}: Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_dev_concurrent_call_waits_for_lock(prepared: Checkout) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(prepared.root / "home")}
    with (prepared.root / "dev.py").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        command = [sys.executable, str(prepared.root / "dev.py"), "run"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe) as other:
            assert other.stderr is not None
            assert "waiting for another dev.py" in other.stderr.readline()
            assert other.poll() is None
            fcntl.flock(file, fcntl.LOCK_UN)
            out, _ = other.communicate(timeout=60)
    assert "tinydep 1.0" in out


def test_dev_old_python_names_needed_version(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "own")
    launcher = tmp_path / "old.py"
    launcher.write_text(
        "import runpy, sys\nsys.version_info = (3, 9, 6)\nsys.argv = sys.argv[1:]\n"
        'runpy.run_path(sys.argv[0], run_name="__main__")\n',
        encoding="utf-8",
    )
    refused = checkout.run("demo", launcher=launcher)
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr
    assert not checkout.venv.exists()


def test_dev_source_parses_on_refused_pythons() -> None:
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_dev_unknown_command_creates_no_env(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "own")
    unknown = checkout.run("demmo")
    assert unknown.returncode == 2
    assert "known are demo, test, run and nox" in unknown.stderr
    assert checkout.run().returncode == 2
    assert "python3 dev.py demo" in checkout.run("--help").stdout
    assert not checkout.venv.exists()
