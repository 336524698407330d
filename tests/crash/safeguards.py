"""Every safeguard of the product: what it prevents, how it is switched off, and the test that must then go red.

A safeguard is switched off by replacing a text that stands exactly once in one of the product's files. Whoever removes
or moves a safeguard hears so from ``test_safeguards.py``, which names it; whoever adds one adds it here and runs
``python3 dev.py nox -s docs``, which writes ``docs/reference/safeguards.md``.
"""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.crash.safeguards_admission import ADMISSION
from tests.crash.safeguards_charging import CHARGING
from tests.crash.safeguards_devkit import GATE, LOCAL_TEXTRACT
from tests.crash.safeguards_integrity import CHECKING, ERASING, LOOPBACK
from tests.crash.safeguards_process import PROCESS, SUBMISSION
from tests.crash.safeguards_storage import ERASURE, OBJECTS, ROWS
from tests.crash.safeguards_work import ACTIVITIES, WORKFLOW

CHAPTERS: dict[str, tuple[Safeguard, ...]] = {
    "Charging": CHARGING,
    "Rows": ROWS,
    "Objects": OBJECTS,
    "Erasure": (*ERASURE, *ERASING),
    "The workflow": WORKFLOW,
    "Reading and persisting": ACTIVITIES,
    "Taking work": ADMISSION,
    "Submissions": SUBMISSION,
    "Check and repair": CHECKING,
    "Processes": PROCESS,
    "Services on loopback": LOOPBACK,
    "The local Textract": LOCAL_TEXTRACT,
    "The replay gate": GATE,
}

SAFEGUARDS: tuple[Safeguard, ...] = tuple(safeguard for chapter in CHAPTERS.values() for safeguard in chapter)
