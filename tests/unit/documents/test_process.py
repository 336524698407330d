"""Whatever a document does to the process that opens it, the worker goes on and knows what is at fault."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from temporalio.testing import ActivityEnvironment

from photo_worker import media
from photo_worker.adapters.documents.process import PROGRAM, OpeningLimits, ProcessDecoder
from photo_worker.errors import (
    DecoderMissing,
    DecoderUnavailable,
    DocumentProtected,
    DocumentTooCostly,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)
from tests.support import documents, hostile_pdfs

ROOT = Path(__file__).resolve().parents[3]


def program(code: str) -> Sequence[str]:
    """Return a program that runs this code instead of opening a document."""
    return (sys.executable, "-P", "-c", f"import os, signal, sys, time\n{code}")


def on_the_photo(code: str) -> str:
    """Return code that runs ``code`` for the photo alone, and accepts every other document."""
    return f"if sys.stdin.buffer.read() != b'photo':\n    print('{{}}'), sys.exit()\n{code}"


def run(code: str, bounds: OpeningLimits | None = None) -> bytes:
    return ProcessDecoder(program=program(code), bounds=bounds).convert(b"photo", media.HEIC, "raw/photo.heic")


def test_process_decoder_returns_copy_or_named_refusal() -> None:
    decoder = ProcessDecoder()
    assert decoder.convert(documents.heic("turned"), media.HEIC, "photo").startswith(b"\xff\xd8\xff")
    decoder.check(documents.pdf(1), media.PDF, "page")
    with pytest.raises(UnsupportedDocument, match=r"'raw/pages\.pdf' is a PDF of 12 pages"):
        decoder.check(documents.pdf(12), media.PDF, "raw/pages.pdf")
    with pytest.raises(DocumentProtected, match=r"raw/secret\.pdf"):
        decoder.check(documents.protected_pdf(), media.PDF, "raw/secret.pdf")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        # The document is at fault: another attempt would end as this one.
        ("os.abort()", UnreadableDocument),
        ("os.kill(os.getpid(), signal.SIGSEGV)", UnreadableDocument),
        ("os.kill(os.getpid(), signal.SIGXCPU)", DocumentTooCostly),
        ("print('no JSON at all')", UnreadableDocument),
        ('print(\'{"defect": "OddError: odd", "trace": ""}\')', UnreadableDocument),
        ('print(\'{"error": "document_too_costly", "context": {"what": "memory"}}\')', DocumentTooCostly),
        # The machine or the worker is.
        ("os.kill(os.getpid(), signal.SIGKILL)", DecoderUnavailable),
        ("os.kill(os.getpid(), signal.SIGTERM)", DecoderUnavailable),
        ("sys.exit(1)", DecoderUnavailable),
        ('print(\'{"error": "decoder_missing", "context": {"reason": "No module"}}\')', DecoderMissing),
    ],
)
def test_process_decoder_maps_child_exit_to_error(code: str, error: type[PhotoWorkerError]) -> None:
    with pytest.raises(error) as caught:
        run(on_the_photo(code))
    assert caught.value.retryable is (error is DecoderUnavailable)


@pytest.mark.parametrize(
    "code",
    [
        # A processor that the wheels do not support, a broken library, or a sandbox that forbids a system call.
        "os.kill(os.getpid(), signal.SIGILL)",
        "os.abort()",
        "os.kill(os.getpid(), signal.SIGSYS)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.kill(os.getpid(), signal.SIGXCPU)",
        "sys.exit(1)",
        "print('no JSON at all')",
        "pass",
        'print(\'{"defect": "OSError: libpdfium.so", "trace": ""}\')',
        'print(\'{"error": "document_unreadable", "context": {"reason": "every one is"}}\')'
        " if sys.stdin.buffer.read() != b'photo' else os.abort()",
    ],
)
def test_process_decoder_broken_for_sample_is_worker_fault(code: str) -> None:
    with pytest.raises(DecoderUnavailable, match="sound document") as caught:
        run(code)
    assert caught.value.passes


@pytest.mark.parametrize("kind", [media.PDF, media.TIFF, media.WEBP, media.HEIC])
def test_process_decoder_unloadable_library_is_worker_fault(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading a truncated native library, or one of another platform, raises the same errors as a damaged file."""
    for name in ("pypdfium2", "pi_heif", "PIL"):
        (tmp_path / f"{name}.py").write_text('raise OSError("lib.so: failed to map segment from shared object")\n')
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    decoder = ProcessDecoder()
    work = decoder.check if kind in {media.PDF, media.TIFF} else decoder.convert
    with pytest.raises((DecoderMissing, DecoderUnavailable)) as caught:
        work(b"%PDF-1.4", kind, "raw/page")
    assert caught.value.passes
    assert "failed to map segment" in caught.value.message


def test_process_decoder_unstartable_child_is_named(caplog: pytest.LogCaptureFixture) -> None:
    decoder = ProcessDecoder(program=(sys.executable, "-P", "-m", "no_such_module.child"))
    with pytest.raises(DecoderUnavailable, match="no_such_module"):
        decoder.check(documents.pdf(1), media.PDF, "page")
    assert "no_such_module" in str([vars(record).get("photo") for record in caplog.records])


def test_process_decoder_child_stderr_is_logged_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    """Messages of libraries may quote the document."""
    caplog.set_level("INFO")
    with pytest.raises(UnreadableDocument):
        run(on_the_photo("print('two cups of flour', file=sys.stderr, flush=True)\nos.abort()"))
    assert "flour" not in str([vars(record) for record in caplog.records])
    caplog.set_level("DEBUG")
    with pytest.raises(UnreadableDocument):
        run(on_the_photo("print('x' * 100_000 + 'two cups of flour', file=sys.stderr, flush=True)\nos.abort()"))
    (said,) = [vars(record)["photo"]["stderr"] for record in caplog.records if "broke on" in record.message]
    assert said.endswith("two cups of flour\n")
    assert len(said) == 1024


def test_process_decoder_unexpected_error_logs_job(caplog: pytest.LogCaptureFixture) -> None:
    defect = 'print(\'{"defect": "OddError: odd", "trace": "at line 1"}\')'
    within = ActivityEnvironment()
    with pytest.raises(UnreadableDocument, match="OddError: odd"):
        within.run(lambda: run(on_the_photo(defect)))
    (record,) = [record for record in caplog.records if "failed unexpectedly" in record.message]
    assert vars(record)["temporal_activity"]["workflow_id"] == within.info.workflow_id


def test_process_decoder_communication_failure_is_worker_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(subprocess.Popen, "communicate", fails)
    with pytest.raises(DecoderUnavailable, match="MemoryError"):
        run("time.sleep(1000)")


@pytest.mark.parametrize("first", [0, 1])
def test_process_decoder_without_threads_leaves_no_child(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    start, before = threading.Thread.start, len(list(Path("/dev/fd").iterdir()))
    left = iter(range(first, -1, -1))

    def refuse(thread: threading.Thread) -> None:
        if not next(left):
            raise RuntimeError("can't start new thread")
        start(thread)

    begun: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen.__init__

    def note(process: subprocess.Popen[bytes], *arguments: Any, **options: Any) -> None:
        begun.append(process)
        begin(process, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run("time.sleep(1000)")
    assert len(list(Path("/dev/fd").iterdir())) <= before
    # The process was killed and reaped.
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


def test_process_decoder_missing_program_is_worker_fault() -> None:
    with pytest.raises(DecoderUnavailable):
        ProcessDecoder(program=["/no/such/program"]).check(b"", media.PDF, "page")


def test_process_decoder_cpu_limit_is_too_costly() -> None:
    # The product's own program, with a document that needs no parser.
    code = (
        "from photo_worker.adapters.documents import child, decoding\n"
        "def spin(content, kind, name):\n"
        "    while content == b'photo': pass\n"
        "    return b''\n"
        "decoding.convert = spin\n"
        "sys.exit(child.main(sys.argv[1:]))"
    )
    with pytest.raises(DocumentTooCostly, match="more processor time"):
        run(code, OpeningLimits(cpu_seconds=1, wall_seconds=100))


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_process_decoder_memory_limit_is_too_costly() -> None:
    code = (
        "from photo_worker.adapters.documents import child, decoding\n"
        "decoding.convert = lambda content, kind, name: bytes(3 << 30)\n"
        "sys.exit(child.main(sys.argv[1:]))"
    )
    with pytest.raises(DocumentTooCostly, match="more memory"):
        run(code)


def test_process_decoder_wall_limit_is_retryable() -> None:
    with pytest.raises(DecoderUnavailable, match="within 1 s"):
        run("time.sleep(1000)", OpeningLimits(wall_seconds=1))


def test_process_decoder_cancelled_ends_child(tmp_path: pytest.TempPathFactory) -> None:
    marker = f"{tmp_path}/pid"

    def look() -> None:
        # The file exists before its content does.
        if os.path.exists(marker) and os.path.getsize(marker):  # noqa: PTH110, PTH202
            raise InterruptedError

    code = f"with open({marker!r}, 'w') as file:\n    file.write(str(os.getpid()))\ntime.sleep(1000)"
    with pytest.raises(InterruptedError):
        ProcessDecoder(program=program(code), look=look).check(b"", media.PDF, "page")
    with open(marker) as file:  # noqa: PTH123
        pid = int(file.read())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_process_decoder_sends_large_document_whole() -> None:
    # More than a pipe buffers, and the process reads late.
    code = "time.sleep(1.2)\ncontent = sys.stdin.buffer.read()\nprint('{}')\nprint(len(content))"
    decoder = ProcessDecoder(program=program(code))
    assert decoder.convert(bytes(20 << 20), media.HEIC, "photo").strip() == str(20 << 20).encode()


def test_process_decoder_child_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("LANGSMITH_API_KEY", "HOMEBREW_GITHUB_API_TOKEN", "PATHOLOGY_DB_PASSWORD", "PYTHON_INDEX_TOKEN", "TZKEY")
    for name in ("AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "TEMPORAL_API_KEY", *foreign):
        monkeypatch.setenv(name, "secret")
    told = run("print('{}'); print(sorted(name for name, value in os.environ.items() if value == 'secret'))")
    assert told.strip() == b"[]"


def test_process_decoder_limits_parallel_children() -> None:
    began: list[float] = []
    code = "time.sleep(0.6)\nprint('{}')\nprint(time.time())"
    decoder = ProcessDecoder(program=program(code), parallel=1)

    def one() -> None:
        began.append(float(decoder.convert(b"", media.HEIC, "photo")))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ends = sorted(began)
    assert len(ends) == 3
    assert all(later - earlier > 0.5 for earlier, later in itertools.pairwise(ends))


def test_process_decoder_program_is_child_module() -> None:
    assert PROGRAM[-1] == "photo_worker.adapters.documents.child"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_process_decoder_greedy_pdf_is_too_costly() -> None:
    """PDFium aborts if it gets no more memory."""
    with pytest.raises(DocumentTooCostly, match="more memory"):
        ProcessDecoder().check(hostile_pdfs.greedy_table(), media.PDF, "page")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_process_decoder_machine_memory_limit_is_worker_fault() -> None:
    """If the worker's machine has a lower memory limit, the document can still be opened elsewhere."""
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (250_000_000, 250_000_000))\n"
        "from photo_worker.adapters.documents import child, decoding\n"
        "decoding.convert = lambda content, kind, name: bytes(400_000_000)\n"
        "sys.exit(child.main(sys.argv[1:]))"
    )
    with pytest.raises(DecoderUnavailable, match="memory"):
        run(code)
