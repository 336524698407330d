"""Mutations of the emulator: one defect in its source each, and the check of the suite that must detect it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.mutation import Mutation

_SOURCE = "packages/textract-local/src/textract_local"


@dataclass(frozen=True)
class EmulatorMutation:
    """A defect of the emulator: edits of its source, and the id of the check that must fail."""

    check: str
    edits: tuple[Mutation, ...]


def _edit(file: str, within: str, old: str, new: str, *, in_text: bool = False) -> Mutation:
    return Mutation(f"{_SOURCE}/{file}", within, old, new, in_text)


# The emulator checks its own responses, and would refuse to send one that does not fit the model.
_RESPONSES_UNCHECKED = _edit(
    "server/operations.py", "Operations._encode", "self._model.check_response($call.operation, $response)", ""
)
_TOKEN_IGNORED = _edit("server/jobs/service.py", "Jobs.start", 'given.get("ClientRequestToken")', "None")
_OTHER_INPUT_TAKEN = _edit("server/jobs/store.py", "JobStore.known", "$row[1] != canonical($given)", "False")

MUTATIONS = {
    "token ignored": EmulatorMutation("job.token.StartDocumentTextDetection", (_TOKEN_IGNORED,)),
    "token ignored, 16 at once": EmulatorMutation("job.16-starts", (_TOKEN_IGNORED,)),
    "token without its request": EmulatorMutation(
        "job.token-mismatch.DocumentLocation.StartDocumentTextDetection", (_OTHER_INPUT_TAKEN,)
    ),
    "token for both operations": EmulatorMutation(
        "job.token-other-operation",
        (
            _edit("server/jobs/store.py", "JobStore.known", "operation = ?", "operation <> '' || ?", in_text=True),
            _OTHER_INPUT_TAKEN,
        ),
    ),
    "NextToken ignored": EmulatorMutation(
        "job.paging.replay",
        (
            _edit(
                "server/jobs/service.py",
                "Jobs.get",
                'self._tokens.read(given["NextToken"], $job_id) if "NextToken" in given else 0',
                "0",
            ),
        ),
    ),
    "MaxResults ignored": EmulatorMutation(
        "job.paging.4.StartDocumentTextDetection",
        (
            _edit(
                "server/jobs/service.py",
                "Jobs.get",
                'min(given.get("MaxResults", BLOCKS_A_RESPONSE), BLOCKS_A_RESPONSE)',
                "BLOCKS_A_RESPONSE",
            ),
        ),
    ),
    "MaxResults of 0 taken": EmulatorMutation(
        "request.GetDocumentTextDetection.max-results-0",
        (_edit("server/model.py", "_outside", "$measured < $least", "0 < $measured < $least"),),
    ),
    "Page in synchronous answers": EmulatorMutation(
        "block.no-page",
        (
            _edit(
                "reader/analysis/blocks.py",
                "page_blocks",
                "return $text.in_order()",
                'return [{**block, "Page": 1} for block in $text.in_order()]',
            ),
            _edit(
                "reader/analysis/blocks.py",
                "page_blocks",
                "return [*$text.in_order(), *$found]",
                'return [{**block, "Page": 1} for block in [*$text.in_order(), *$found]]',
            ),
        ),
    ),
    "no Page in jobs": EmulatorMutation(
        "job.page.StartDocumentTextDetection",
        (
            _edit(
                "server/jobs/store.py", "JobStore.put_page", "[paged($block, number) for $block in $blocks]", "$blocks"
            ),
        ),
    ),
    "confidence on a scale of 1": EmulatorMutation(
        "block.confidence",
        (_edit("reader/blocks.py", "_word", "_single($word.confidence * 100)", "_single($word.confidence)"),),
    ),
    "words before lines": EmulatorMutation(
        "block.order",
        (
            _edit(
                "reader/blocks.py",
                "TextBlocks.in_order",
                "[self.page, *self.lines, *($word for $words in self.words for $word in $words)]",
                "[*($word for $words in self.words for $word in $words), *self.lines, self.page]",
            ),
        ),
    ),
    "ids that lead nowhere": EmulatorMutation(
        "block.ids",
        (_edit("reader/blocks.py", "relation", "list($ids)", "[each[::-1] for each in $ids]"),),
    ),
    "boxes in pixels": EmulatorMutation(
        "block.geometry",
        (
            _edit("reader/blocks.py", "_ratios", "_ratio($x / $frame.width)", "_single($x)"),
            _edit("reader/blocks.py", "_ratios", "_ratio($y / $frame.height)", "_single($y)"),
        ),
    ),
    "invented text": EmulatorMutation(
        "document.png.inline", (_edit("reader/blocks.py", "_word", "$word.text", '"Hello"'),)
    ),
    "blocks of a feature that was not requested": EmulatorMutation(
        "analysis.nothing-else.TABLES",
        (_edit("reader/analysis/blocks.py", "_Analysis.blocks", "request.FORMS in $features", "$features"),),
    ),
    "Pages as an object": EmulatorMutation(
        "job.pages-integer",
        (
            _edit(
                "server/jobs/responses.py",
                "finished",
                '{"Pages": $job.pages or 0}',
                '{"Pages": {"Pages": $job.pages or 0}}',
            ),
            _RESPONSES_UNCHECKED,
        ),
    ),
    "qualified __type": EmulatorMutation(
        "wire.error-form",
        (_edit("server/codecs.py", "_dump_json_error", "$failure.code", "_SHAPES + $failure.code"),),
    ),
    "message with a small m": EmulatorMutation(
        "wire.error-form",
        (_edit("server/codecs.py", "_dump_json_error", '"Message": $message', '"message": $message'),),
    ),
    "errors as 500": EmulatorMutation(
        "wire.error-form", (_edit("server/failures.py", "ErrorResponse.status", "400", "500"),)
    ),
    "missing objects are empty": EmulatorMutation(
        "request.DetectDocumentText.object-missing",
        (
            _edit(
                "server/operations.py",
                "Operations._read",
                "$document = await self._document($call)",
                """
                try:
                    $document = await self._document($call)
                except ServiceError as error:
                    if error.failure.code != "InvalidS3ObjectException":
                        raise
                    return _PAGE % (b"[]", _DETECTED, MODEL_VERSION)
                """,
            ),
        ),
    ),
    "FeatureTypes not needed": EmulatorMutation(
        "request.AnalyzeDocument.no-features",
        (
            _edit(
                "server/operations.py",
                "Operations.read_request",
                "self._model.read_request($operation, $body, binary=$binary)",
                """
                self._model.read_request(
                    $operation,
                    {"FeatureTypes": ["TABLES"], **$body} if isinstance($body, dict) else $body,
                    binary=$binary,
                )
                """,
            ),
        ),
    ),
    "job forgotten after Get": EmulatorMutation(
        "job.read-again.StartDocumentTextDetection",
        (
            _edit(
                "server/jobs/service.py",
                "Jobs.get",
                "return finished($job, $job.status, $job.status_message, $blocks, $next_token)",
                """
                await self.age($job.id, 30 * 24 * 3600)
                return finished($job, $job.status, $job.status_message, $blocks, $next_token)
                """,
            ),
        ),
    ),
    "job lost with the process": EmulatorMutation(
        "job.restart.done",
        (_edit("server/jobs/store.py", "JobStore.open", 'self.directory / "jobs.sqlite3"', '":memory:"'),),
    ),
    "job for the other Get": EmulatorMutation(
        "job.other-operation.StartDocumentAnalysis",
        (
            _edit(
                "server/jobs/service.py",
                "Jobs.get",
                "$job is None or $job.operation != _START_OF[$operation]",
                "$job is None",
            ),
            _RESPONSES_UNCHECKED,
        ),
    ),
    "job ids of 36 letters": EmulatorMutation(
        "job.id.StartDocumentTextDetection",
        (_edit("server/jobs/service.py", "Jobs.start", "secrets.token_hex(32)", "secrets.token_hex(18)"),),
    ),
    "second notification": EmulatorMutation(
        "job.told-once",
        (_edit("server/jobs/notifications.py", "notification_of", "$fault.copies", "2 * $fault.copies"),),
    ),
    # Get is one call behind: it returns the status that the call before saw.
    "notified before Get says so": EmulatorMutation(
        "job.message.StartDocumentTextDetection",
        (
            _edit(
                "server/jobs/service.py",
                "Jobs.get",
                "$most = min($given.get('MaxResults', BLOCKS_A_RESPONSE), BLOCKS_A_RESPONSE)",
                """
                seen = self.__dict__.setdefault("_seen", {})
                before, seen[job_id] = seen.get(job_id, JobStatus.IN_PROGRESS), job.status
                if before is JobStatus.IN_PROGRESS:
                    return {**unfinished(job), "JobStatus": before.value}
                $most = min($given.get('MaxResults', BLOCKS_A_RESPONSE), BLOCKS_A_RESPONSE)
                """,
            ),
        ),
    ),
    "charged twice": EmulatorMutation(
        "counter.synchronous",
        (
            _edit(
                "server/counters.py",
                "Counters.billed",
                "self._document($sha256).billed += 1",
                "self._document($sha256).billed += 2",
            ),
        ),
    ),
    "prefix made tidy": EmulatorMutation(
        "job.output.slash.StartDocumentTextDetection",
        (
            _edit(
                "server/jobs/output.py",
                "Output._write",
                'config.get("S3Prefix", DEFAULT_PREFIX)',
                'config.get("S3Prefix", DEFAULT_PREFIX).strip("/")',
            ),
        ),
    ),
}
"""Each mutation by the promise that it breaks."""
