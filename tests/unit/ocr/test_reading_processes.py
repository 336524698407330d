"""Child processes that read documents: the worker survives any document, and maps each failure to its cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.registry import BackendContext, make_backend
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import OcrBackend
from tests.support import documents, hostile_pdfs
from textract_local.errors import (
    DecoderUnavailable,
    DocumentTooCostly,
    EngineUnavailable,
    ReadingError,
    TextractLocalError,
    UnreadableDocument,
)
from textract_local.reader.reader import DocumentReader
from textract_local.reader.reading_processes import ReadingBounds, ReadingProcesses

# A child that speaks the product's protocol, and runs ``code`` for the document b"photo".
CHILD = """
import json, os, signal, struct, sys, time
def send(header, body=b""):
    text = json.dumps(header).encode()
    os.write(1, struct.pack(">II", len(text), len(body)) + text + body)
def take():
    sizes = struct.unpack(">II", os.read(0, 8))
    return json.loads(os.read(0, sizes[0])), os.read(0, sizes[1])
send({{"ready": True, "version": "1", "has_memory": {memory}}})
read = 0
while True:
    header, content = take()
    send({{"begun": True}})
    if content == b"photo":
{code}
    read += 1
    send({{"read": True, "holds_bytes": 1}}, json.dumps({{"pid": os.getpid(), "read": read}}).encode())
"""


def program(code: str, memory: bool = True) -> Sequence[str]:
    lines = "\n".join(f"        {line}" for line in code.splitlines())
    return (sys.executable, "-P", "-c", CHILD.format(code=lines, memory=memory))


@pytest.fixture
def made() -> Iterator[Callable[..., ReadingProcesses]]:
    """Return a factory of ``ReadingProcesses``, which are closed after the test."""
    all_: list[ReadingProcesses] = []

    def make(
        *given: str, bounds: ReadingBounds | None = None, memory: bool = True, **options: object
    ) -> ReadingProcesses:
        named = {"program": program(given[0], memory)} if given else {}
        all_.append(ReadingProcesses(bounds=bounds, **{**named, **options}))  # type: ignore[arg-type]
        return all_[-1]

    yield make
    for processes in all_:
        processes.close()


def backend_on(content: bytes, **options: object) -> tuple[OcrBackend, DocumentRef]:
    store = MemoryObjectStore()
    store.ensure_bucket("photos")
    store.put("photos", "page", content, content_type="application/pdf")
    backend = make_backend("local", BackendContext(store, **options))  # type: ignore[arg-type]
    return backend, DocumentRef("photos", "page", "application/pdf", len(content), "")


def test_local_backend_cancelled_mid_page_stops() -> None:
    """Drawing this page takes minutes."""
    began = time.monotonic()

    def wait(seconds: float) -> None:
        if time.monotonic() > began + 2:
            raise InterruptedError

    backend, document = backend_on(hostile_pdfs.slow(), wait=wait)
    with pytest.raises(InterruptedError):
        backend.detect_text(document)


# The real child process, on a machine whose disk is full.
FULL_DISK = """
import errno, sys
from textract_local.reader import ocrust_engine, reading_child
def read(self, image):
    raise OSError(errno.ENOSPC, "No space left on device")
ocrust_engine.OcrustEngine.read = read
sys.exit(reading_child.main(sys.argv[1:]))
"""


def test_reading_processes_os_error_of_engine_blames_machine(made: Callable[..., ReadingProcesses]) -> None:
    processes = made(program=(sys.executable, "-P", "-c", FULL_DISK))
    with pytest.raises(DecoderUnavailable, match="the OCR engine failed: No space left on device"):
        processes.read(documents.encoded(documents.card("Rice"), "PNG"), "photo.png")


# A separate worker that prints its own peak memory and that of its children.
MEASURE = """
import json, pathlib, resource, sys
from photo_worker.errors import PhotoWorkerError
from tests.support import hostile_pdfs
from tests.unit.ocr.test_reading_processes import backend_on
backend, document = backend_on(hostile_pdfs.greedy())
try:
    told = str(backend.detect_text(document))
except PhotoWorkerError as error:
    told = error.code
status = pathlib.Path("/proc/self/status").read_text()
own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([told, *(peak * 1024 / 1e6 for peak in (own, others))]))
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_local_backend_greedy_page_spares_worker_memory() -> None:
    # If the product's limit fails, this limit protects the machine.
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n{MEASURE}"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    told, own, others = json.loads(done.stdout)
    assert told == "document_too_costly"
    assert own < 700
    # The limit is on a process' own data; libraries and models, which are mapped files, come on top.
    assert others < ReadingBounds().memory_bytes / 1e6 + 64


LARGE = """
import json
held = bytearray(1_100_000_000)
held[::4096] = bytes(len(held[::4096]))
del held
from textract_local.errors import TextractLocalError
from textract_local.reader.reading_processes import ReadingProcesses
from tests.support import hostile_pdfs
from tests.unit.ocr.test_reading_processes import program
told = []
for processes, content in (
    (ReadingProcesses(program=program("os.abort()", True)), b"photo"),
    (ReadingProcesses(), hostile_pdfs.greedy()),
):
    try:
        processes.read(content, "page")
    except TextractLocalError as error:
        told.append(error.code)
    processes.close()
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_reading_processes_large_worker_tells_crash_from_memory() -> None:
    """Linux counts a worker's own peak memory as that of the processes that it starts."""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert json.loads(done.stdout) == ["document_unreadable", "document_too_costly"]


def test_reading_processes_cpu_limit_ends_page(made: Callable[..., ReadingProcesses]) -> None:
    processes = made(bounds=ReadingBounds(cpu_seconds=3))
    with pytest.raises(DocumentTooCostly, match="more processor time"):
        processes.read(hostile_pdfs.slow(), "page")
    text = json.dumps(processes.read(documents.pdf(1, "Rice"), "page"))
    assert "Rice" in text


@pytest.mark.single_python
def test_reading_processes_read_equals_document_reader(
    made: Callable[..., ReadingProcesses], reader: DocumentReader
) -> None:
    content = documents.encoded(documents.card("Lemon Tart 1/2", "Öl"), "PNG")
    processes = made()
    assert processes.read(content, "card") == reader.read(content, "card")
    assert processes.version == reader.version


def test_reading_processes_refusal_names_document(made: Callable[..., ReadingProcesses]) -> None:
    with pytest.raises(TextractLocalError, match=r"raw/pages\.pdf.* 2 pages") as caught:
        made().read(documents.pdf(2), "raw/pages.pdf")
    assert caught.value.code == "document_unsupported"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        # The document is at fault: another attempt would fail in the same way.
        ("os.abort()", UnreadableDocument),
        ("os.kill(os.getpid(), signal.SIGXCPU)", DocumentTooCostly),
        ('send({"error": "document_too_costly", "context": {"what": "memory"}})\ncontinue', DocumentTooCostly),
        ('os.write(1, struct.pack(">II", 2, 1 << 25) + b"{}")\ntime.sleep(60)', DocumentTooCostly),
        ('send({"defect": "OddError: odd", "trace": ""})\ncontinue', UnreadableDocument),
        # The machine or the worker is at fault.
        ("os.kill(os.getpid(), signal.SIGKILL)", DecoderUnavailable),
        ("os.kill(os.getpid(), signal.SIGTERM)", DecoderUnavailable),
        ("sys.exit(1)", DecoderUnavailable),
        (
            'send({"error": "engine_unavailable", "context": {"engine": "ocrust", "reason": "gone"}})\ncontinue',
            EngineUnavailable,
        ),
    ],
)
def test_reading_processes_child_exit_maps_to_error(
    made: Callable[..., ReadingProcesses], code: str, error: type[TextractLocalError]
) -> None:
    processes = made(code)
    for _ in range(2):
        # Once in a process that has read before, and once in one that has not.
        with pytest.raises(error) as caught:
            processes.read(b"photo", "raw/photo")
        assert isinstance(caught.value, ReadingError) is (error in {DecoderUnavailable, EngineUnavailable})
        processes.read(b"another", "raw/another")


def test_reading_processes_crash_on_sound_document_blames_worker(
    made: Callable[..., ReadingProcesses],
) -> None:
    on_any = program("os.abort()")[-1].replace('if content == b"photo":', "if True:")
    with pytest.raises(DecoderUnavailable, match="sound document"):
        made(program=(sys.executable, "-P", "-c", on_any)).read(b"photo", "raw/photo")


def test_reading_processes_scarce_memory_blames_machine(
    made: Callable[..., ReadingProcesses],
) -> None:
    code = 'send({"error": "document_too_costly", "context": {"what": "memory"}})\ncontinue'
    with pytest.raises(DecoderUnavailable, match="does not get"):
        made(code, memory=False).read(b"photo", "raw/photo")


def test_reading_processes_memory_error_retries_in_new_process(made: Callable[..., ReadingProcesses]) -> None:
    code = 'if read:\n    send({"error": "document_too_costly", "context": {"what": "memory"}})\n    continue'
    processes = made(code)
    processes.read(b"another", "raw/another")
    assert processes.read(b"photo", "raw/photo")["read"] == 1


def test_reading_processes_process_is_reused_until_killed(made: Callable[..., ReadingProcesses]) -> None:
    processes = made("pass")
    first, second = (processes.read(b"photo", "raw/photo") for _ in range(2))
    assert (first["pid"], second["read"]) == (second["pid"], 2)
    os.kill(first["pid"], 9)
    assert processes.read(b"photo", "raw/photo")["pid"] != first["pid"]


def test_reading_processes_wall_limit_is_unavailable(made: Callable[..., ReadingProcesses]) -> None:
    processes = made("time.sleep(1000)", bounds=ReadingBounds(wall_seconds=1))
    with pytest.raises(DecoderUnavailable, match="within 1 s"):
        processes.read(b"photo", "raw/photo")


def test_reading_processes_missing_program_is_unavailable(made: Callable[..., ReadingProcesses]) -> None:
    with pytest.raises(DecoderUnavailable, match="no process can be started"):
        made(program=["/no/such/program"]).read(b"photo", "raw/photo")


def test_reading_processes_warm_without_engine_is_refused(made: Callable[..., ReadingProcesses]) -> None:
    code = (
        "import sys\nsys.modules['ocrust'] = None\nfrom textract_local.reader import reading_child\n"
        "sys.exit(reading_child.main(sys.argv[1:]))"
    )
    with pytest.raises(EngineUnavailable, match="ocrust"):
        made(program=(sys.executable, "-P", "-c", code)).warm()


# A worker that prints the ids of its child processes, and is then killed while they work.
DYING = """
import os, signal, subprocess, sys, time
from photo_worker.adapters.documents.process import ProcessDecoder
from textract_local.reader.reading_processes import ReadingProcesses
from tests.support import hostile_pdfs
begun = []
begin = subprocess.Popen.__init__
def note(process, *arguments, **options):
    begin(process, *arguments, **options)
    begun.append(process.pid)
subprocess.Popen.__init__ = note
began = time.monotonic()
def look():
    if time.monotonic() > began + 3:
        print(*begun, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
SPIN = """
import sys
from photo_worker.adapters.documents import child, decoding
def forever(*given):
    while True: pass
decoding.check = forever
sys.exit(child.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "call",
    [
        "ReadingProcesses(look=look).read(hostile_pdfs.slow(), 'page')",
        f"ProcessDecoder(program=(sys.executable, '-P', '-c', {SPIN!r}), look=look).check(b'', 'application/pdf', '')",
    ],
    ids=["read", "check"],
)
def test_child_processes_end_when_worker_is_killed(call: str) -> None:
    """A killed worker cannot stop its child processes, and a document may keep them busy for minutes."""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", DYING + call], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == -9, done.stderr[-500:]
    pids = done.stdout.split()
    assert pids
    until = time.monotonic() + 20
    while running := [pid for pid in pids if _runs(pid)]:
        if time.monotonic() > until:
            for pid in running:
                os.kill(int(pid), 9)
            pytest.fail(f"{len(running)} of {len(pids)} processes outlive their worker")
        time.sleep(0.2)


def _runs(pid: str) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
    # If nothing reaps orphans, they stay as zombies.
    return bool(shown.strip()) and not shown.startswith("Z")
