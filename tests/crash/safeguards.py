"""Every safeguard of the product: the harm it prevents, how it is switched off, and the test that must fail then.

A safeguard is switched off by mutations of the product's syntax tree (``tests/support/mutation.py``): code that is
exactly once in a definition becomes other code. If a safeguard is removed or moved, ``tests/unit/test_mutation.py``
and ``test_safeguards.py`` fail with its name. Add a new one here and run
``python3 dev.py nox -s docs``, which writes ``docs/reference/safeguards.md``.
"""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.crash.safeguards_admission import ADMISSION
from tests.crash.safeguards_charging import CHARGING
from tests.crash.safeguards_erasing import ERASING
from tests.crash.safeguards_integrity import CHECKING
from tests.crash.safeguards_loopback import LOOPBACK
from tests.crash.safeguards_packages import GATE, LOCAL_TEXTRACT
from tests.crash.safeguards_process import PROCESS, SUBMISSION
from tests.crash.safeguards_rows import ROWS
from tests.crash.safeguards_storage import ERASURE, OBJECTS
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
