"""Timeouts, retries and limits, as data.

Temporal's types are built from these where a workflow uses them, so that a test can read
every policy and compare it with recorded histories.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

# Synchronous Textract reads at most 10 MB, whatever the type (Amazon Textract quotas). Jobs keep the same limit
# here: above it they read PDF and TIFF alone.
SYNC_OCR_LIMIT_BYTES = 10 * 1024 * 1024

# HEIC and WebP are converted, so that Textract's limit is the copy's. A phone's 48 megapixels take 5 to 15 MB.
CONVERTED_LIMIT_BYTES = 32 * 1024 * 1024

# Longest side of an image that Textract reads (Amazon Textract quotas).
IMAGE_SIDE_LIMIT_PX = 10_000

# Pillow's own warning threshold: 1 GiB of RGBA. Above it a small file can exhaust a small machine.
IMAGE_PIXEL_LIMIT = 89_478_485

# A phone's 50 megapixels, 8,192 x 6,144. Pillow's decoder holds a WebP's pixels four times, 16 bytes for each.
WEBP_PIXEL_LIMIT = 50_331_648

# Enough of a file for its signature and, save for rare photos with large metadata in front, its dimensions.
SNIFF_BYTES = 1024 * 1024

# The oldest full OCR answers of one page are below 2 MiB; ten times that is still harmless in memory.
OCR_RESULT_LIMIT_BYTES = 32 * 1024 * 1024


# A submission writes the row, looks at the photo again, puts it back where an erase took it, and starts the workflow.
SUBMISSION_TIME = timedelta(minutes=1)

# How long a job waits for services that are away and workers that are set up wrongly, where it says nothing else.
JOB_LIFETIME = timedelta(days=1)

# What a step has at least that begins when the job's lifetime is nearly over.
LAST_CHANCE = timedelta(seconds=30)

# The longest wait between two attempts: how long a job may lag behind a service that has come back.
LONGEST_WAIT = timedelta(minutes=1)

# The type of an activity's failure for which no code stands: these alone are counted.
UNEXPECTED = "unexpected"


@dataclass(frozen=True)
class ActivityPolicy:
    """How long one attempt of an activity may take, and when it is tried again.

    What is wrong with a service or a worker is tried again for as long as the job lives. ``maximum_attempts``
    bounds the attempts that end with an unexpected error; 0 means without end. ``heartbeat_timeout`` is for
    activities whose attempt may take longer than a crashed worker should go unnoticed.
    """

    start_to_close_timeout: timedelta
    initial_interval: timedelta
    maximum_interval: timedelta
    maximum_attempts: int
    backoff_coefficient: float = 2.0
    heartbeat_timeout: timedelta | None = None

    def wait_before(self, attempt: int) -> timedelta:
        """Return the wait before an attempt; the second one is the first that waits."""
        # A timedelta ends at a thousand million days, and an activity may be tried without end.
        return min(self.initial_interval * self.backoff_coefficient ** min(attempt - 2, 30), self.maximum_interval)


VERIFY = ActivityPolicy(
    # A gigabyte at 2 MB/s, the slowest link that we care to wait for.
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

# A job whose object was replaced while it was read reads it again, as often as it takes. The waits double from the
# first to the longest, so that an object which is written every second costs little.
REREAD_FIRST_WAIT = timedelta(seconds=1)
REREAD_LONGEST_WAIT = timedelta(minutes=5)


def reread_wait(readings: int) -> timedelta:
    """Return how long a job waits when ``readings`` (from 1) of its object have come to nothing."""
    # Beyond that a timedelta would overflow.
    doubled = 1 << min(readings - 1, 30)
    return min(REREAD_FIRST_WAIT * doubled, REREAD_LONGEST_WAIT)


PERSIST = ActivityPolicy(
    # A slow store and a slow database, one after the other, each within the limits of its own calls.
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
    # A job must never stay "running": the reason is written when the database is back, however late.
    maximum_attempts=0,
)


@dataclass(frozen=True)
class CountedPolicies:
    """What runs keep that began before a job had a lifetime: every attempt counts, whatever ended it."""

    verify: ActivityPolicy
    ocr: ActivityPolicy
    persist: ActivityPolicy
    record_failure: ActivityPolicy


_UNTIL_THEN = timedelta(seconds=30)

COUNTED = CountedPolicies(
    verify=replace(VERIFY, maximum_interval=_UNTIL_THEN),
    ocr=replace(OCR, maximum_interval=_UNTIL_THEN),
    persist=replace(
        PERSIST,
        start_to_close_timeout=timedelta(seconds=30),
        heartbeat_timeout=None,
        maximum_interval=timedelta(seconds=5),
    ),
    record_failure=replace(RECORD_FAILURE, maximum_interval=_UNTIL_THEN),
)
