"""Timeouts, retry policies and limits, as data.

Workflows build Temporal's types from these, so that a test can read every policy and compare it with recorded
histories. A worker passes each workflow type its policies, which the type's entry in ``pipelines`` holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from textract_local import limits

# What the worker refuses before OCR is what textract-local's reader, and Amazon Textract, would refuse.
SYNC_OCR_LIMIT_BYTES = limits.SYNC_OCR_LIMIT_BYTES
IMAGE_SIDE_LIMIT_PX = limits.IMAGE_SIDE_LIMIT_PX
IMAGE_PIXEL_LIMIT = limits.IMAGE_PIXEL_LIMIT
SNIFF_BYTES = limits.SNIFF_BYTES
OCR_RESULT_LIMIT_BYTES = limits.OCR_RESULT_LIMIT_BYTES

# HEIC and WebP are converted, so Textract's limit applies to the copy. A phone's 48 megapixels take 5 to 15 MB.
CONVERTED_LIMIT_BYTES = 32 * 1024 * 1024

# A phone's 50 megapixels, 8,192 x 6,144. Pillow's WebP decoder holds the pixels four times, 16 bytes per pixel.
WEBP_PIXEL_LIMIT = 50_331_648

# Time from writing the row to the start of the workflow. Between the two, a submission checks the photo and stores it
# again if an erasure has deleted it.
SUBMISSION_TIME = timedelta(minutes=1)

# How long a job waits for unavailable services and wrongly configured workers, unless it sets another time.
JOB_LIFETIME = timedelta(days=1)

# Minimum time of an activity that begins when the job's lifetime is nearly over.
LAST_CHANCE = timedelta(seconds=30)

# Longest wait between two attempts, and so the longest delay of a job after a service has recovered.
LONGEST_WAIT = timedelta(minutes=1)

# The failure type of errors without a code. Only these count towards the maximum of attempts.
UNEXPECTED = "unexpected"


@dataclass(frozen=True)
class ActivityPolicy:
    """Timeouts of one attempt of an activity, and its retries.

    A fault of a service or a worker is retried during the job's whole lifetime. ``maximum_attempts`` limits the
    attempts that end with an unexpected error; 0 means no limit. ``heartbeat_timeout`` is for activities whose attempt
    may take longer than a crashed worker should go unnoticed.
    """

    start_to_close_timeout: timedelta
    initial_interval: timedelta
    maximum_interval: timedelta
    maximum_attempts: int
    backoff_coefficient: float = 2.0
    heartbeat_timeout: timedelta | None = None

    def wait_before(self, attempt: int) -> timedelta:
        """Return the wait before an attempt (from 2)."""
        # The exponent is limited: attempts may have no limit, and a timedelta overflows above 999,999,999 days.
        return min(self.initial_interval * self.backoff_coefficient ** min(attempt - 2, 30), self.maximum_interval)


VERIFY = ActivityPolicy(
    # A gigabyte at 2 MB/s, the slowest link that is supported.
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=LONGEST_WAIT,
    maximum_attempts=5,
)

OCR = ActivityPolicy(
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=LONGEST_WAIT,
    maximum_attempts=5,
)

# If an object is replaced while a job reads it, the job reads it again, without a limit. The waits double from the
# first to the longest, so that an object which is written every second costs little.
REREAD_FIRST_WAIT = timedelta(seconds=1)
REREAD_LONGEST_WAIT = timedelta(minutes=5)


PERSIST = ActivityPolicy(
    # A slow store followed by a slow database, each within the timeouts of its own calls.
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=timedelta(seconds=30),
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=LONGEST_WAIT,
    maximum_attempts=8,
)

RECORD_FAILURE = ActivityPolicy(
    start_to_close_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=LONGEST_WAIT,
    # A job must never stay "running": the reason is written when the database is available again, however late.
    maximum_attempts=0,
)


@dataclass(frozen=True)
class CountedPolicies:
    """Policies of runs that began before jobs had a lifetime: they limit all attempts, whatever ended each."""

    verify_and_locate_asset: ActivityPolicy
    ocr_textract: ActivityPolicy
    persist_artifacts: ActivityPolicy
    record_failure: ActivityPolicy


_UNTIL_THEN = timedelta(seconds=30)

COUNTED = CountedPolicies(
    verify_and_locate_asset=replace(VERIFY, maximum_interval=_UNTIL_THEN),
    ocr_textract=replace(OCR, maximum_interval=_UNTIL_THEN),
    persist_artifacts=replace(
        PERSIST,
        start_to_close_timeout=timedelta(seconds=30),
        heartbeat_timeout=None,
        maximum_interval=timedelta(seconds=5),
    ),
    record_failure=replace(RECORD_FAILURE, maximum_interval=_UNTIL_THEN),
)


@dataclass(frozen=True)
class ImagePolicies:
    """The policies of ``image_processing_workflow``: one for each activity, by its type, and the times of a job.

    ``counted`` is for runs that began before jobs had a lifetime. ``lifetime`` is that of a job which sets none.
    """

    verify_and_locate_asset: ActivityPolicy = VERIFY
    ocr_textract: ActivityPolicy = OCR
    persist_artifacts: ActivityPolicy = PERSIST
    record_failure: ActivityPolicy = RECORD_FAILURE
    counted: CountedPolicies = COUNTED
    lifetime: timedelta = JOB_LIFETIME
    last_chance: timedelta = LAST_CHANCE
    reread_first_wait: timedelta = REREAD_FIRST_WAIT
    reread_longest_wait: timedelta = REREAD_LONGEST_WAIT

    def reread_wait(self, readings: int) -> timedelta:
        """Return how long a job waits after ``readings`` (from 1) of its object have failed."""
        # The exponent is limited because a timedelta would overflow.
        doubled = 1 << min(readings - 1, 30)
        return min(self.reread_first_wait * doubled, self.reread_longest_wait)


IMAGE = ImagePolicies()
