"""Timeouts, retries and limits, as data.

Temporal's types are built from these where a workflow uses them, so that a test can read
every policy and compare it with recorded histories.
"""

from __future__ import annotations

from dataclasses import dataclass
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

# Enough of a file for its signature and, save for rare photos with large metadata in front, its dimensions.
SNIFF_BYTES = 1024 * 1024

# The oldest full OCR answers of one page are below 2 MiB; ten times that is still harmless in memory.
OCR_RESULT_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class ActivityPolicy:
    """How long one attempt of an activity may take, and when it is tried again.

    ``maximum_attempts`` of 0 means without end. ``heartbeat_timeout`` is for activities whose
    attempt may take longer than a crashed worker should go unnoticed.
    """

    start_to_close_timeout: timedelta
    initial_interval: timedelta
    maximum_interval: timedelta
    maximum_attempts: int
    backoff_coefficient: float = 2.0
    heartbeat_timeout: timedelta | None = None


VERIFY = ActivityPolicy(
    # A gigabyte at 2 MB/s, the slowest link that we care to wait for.
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=5,
)

OCR = ActivityPolicy(
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=5,
)

PERSIST = ActivityPolicy(
    start_to_close_timeout=timedelta(seconds=30),
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=8,
)

RECORD_FAILURE = ActivityPolicy(
    start_to_close_timeout=timedelta(seconds=30),
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=30),
    # A job must never stay "running": the reason is written when the database is back, however late.
    maximum_attempts=0,
)
