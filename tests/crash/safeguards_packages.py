"""The safeguards of the replay gate and of the local Textract, on which the tests of the others depend."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_HISTORIES = "packages/temporal-replay-gate/src/temporal_replay_gate/histories.py"
_LEFT_OUT = "packages/temporal-replay-gate/tests/check/test_unread_files.py::TestFiles::"
_LIMITS = "packages/temporal-replay-gate/tests/check/test_limits.py::"

GATE: tuple[Safeguard, ...] = (
    Safeguard(
        "entry-of-one-change",
        "an entry of the allow list excuses one change by its old and its new value",
        "an entry that was written for one change excuses every later one: a heartbeat of 1 ms passes the gate",
        (8,),
        "the values are not compared",
        (
            Mutation(
                "packages/temporal-replay-gate/src/temporal_replay_gate/allow.py",
                "AllowListEntry.matches",
                "$change == (_plain(self.was), _plain(self.now))",
                "$change is not None",
            ),
        ),
        ("packages/temporal-replay-gate/tests/check/test_allow.py::test_drift_entry_other_value_is_red_and_stale",),
    ),
    Safeguard(
        "nothing-is-left-out-silently",
        "what lies among the histories and is not read makes the gate red",
        "a history that was packed or renamed is checked no more, and the gate stays green",
        (8,),
        "files that are no history by their name are passed over",
        (Mutation(_HISTORIES, "search", "not _is_beside($entry) or _may_be_history($entry)", "False"),),
        (
            _LEFT_OUT + "test_check_file_with_other_suffix_is_red[b.jsonl]",
            _LEFT_OUT + "test_check_history_under_skipped_suffix_is_red[b.py]",
        ),
    ),
    Safeguard(
        "lost-history-is-missed",
        "a history whose provenance is still there is missed",
        "a recorded run that is deleted by mistake proves nothing any more, and the gate stays green",
        (8,),
        "provenance without a history is passed over",
        (
            Mutation(
                _HISTORIES, "search", "$provenance - {provenance_path($history) for $history in $found}", "set[Path]()"
            ),
        ),
        (_LEFT_OUT + "test_check_history_lost_beside_provenance_is_red",),
    ),
    Safeguard(
        "injected-fault-is-detected",
        "a gate that misses a fault that was injected on purpose is red",
        "a gate that is wired wrongly, so that it sees no change, is green for ever",
        (8,),
        "what the control has missed is not reported",
        (
            Mutation(
                "packages/temporal-replay-gate/src/temporal_replay_gate/gate.py",
                "_control",
                "if not $caught: ...",
                "if False: ...",
            ),
        ),
        (
            "packages/temporal-replay-gate/tests/check/test_gate.py::TestControl::test_control_mutation_unseen_is_red[drift]",
        ),
    ),
    Safeguard(
        "forks-end-with-the-gate",
        "what the code under test has forked ends with the gate",
        "one forked process holds the gate's output open, and the job in CI hangs until it is ended from outside",
        (8,),
        "the child's own process is ended, and not its group",
        (
            Mutation(
                "packages/temporal-replay-gate/src/temporal_replay_gate/child_process.py",
                "ChildProcess.kill",
                "os.killpg(self._process.pid, signal.SIGKILL)",
                "os.kill(self._process.pid, signal.SIGKILL)",
            ),
        ),
        (_LIMITS + "test_check_of_code_that_forks_ends_its_forks",),
    ),
)

LOCAL_TEXTRACT: tuple[Safeguard, ...] = (
    Safeguard(
        "gone-caller-frees-its-slot",
        "a reading ends with the last caller that waits for it",
        "callers that hang up leave every slot with a page that nothing waits for, and the next call times out",
        (2,),
        "what is being read is read to its end",
        (
            Mutation(
                "packages/textract-local/src/textract_local/server/recognition.py",
                "PageRecogniser._ask",
                "self.pool.drop($work)",
                "",
            ),
        ),
        (
            "packages/textract-local/tests/emulator/test_call_limits.py::test_page_read_ends_when_last_caller_is_cancelled",
        ),
    ),
)
