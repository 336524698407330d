"""The real emulator with one mutation: ``python -m tests.conformance.mutated_emulator MUTATION``, then its options.

Its reading processes have the mutation, too. The log names each changed file that one of the processes imports, and
the errors that mean that a mutant cannot run.
"""

from __future__ import annotations

import sys

from tests.conformance.mutations import MUTATIONS
from tests.support.changed_imports import import_changed
from tests.support.mutation import Mutation

NOTHING = "nothing"
"""The mutation that changes nothing: a control for the mechanism of mutations itself."""

# The process finds this module through PYTHONPATH, which the tests' emulators get.
_READ = "from tests.conformance.mutated_emulator import read; read()"


def edits_of(name: str) -> tuple[Mutation, ...]:
    """Return the edits of a mutation, without any that the starter itself needs."""
    return () if name == NOTHING else MUTATIONS[name].edits


def starter_of(name: str) -> Mutation:
    """Return the edit by which the emulator starts its reading processes with a mutation, through ``read``."""
    return Mutation(
        "packages/textract-local/src/textract_local/server/spawning.py",
        "spawn",
        '[sys.executable, "-P", "-m", "textract_local.server.reading_process"]',
        f'[sys.executable, "-P", "-c", {_READ!r}, {name!r}]',
    )


def main() -> int:
    """Run the emulator's own program with the mutation that the first argument names."""
    name = sys.argv.pop(1)
    import_changed([*edits_of(name), starter_of(name)], _tell)
    from textract_local.server.__main__ import main as serve

    return serve()


def read() -> None:
    """Run a reading process with the mutation that the first argument names, and exit with its result."""
    name = sys.argv.pop(1)
    import_changed(edits_of(name), _tell)
    from textract_local.server.reading_process import main as serve

    sys.exit(serve(sys.argv[1:]))


def _tell(said: str) -> None:
    sys.stderr.write(f"{said}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
