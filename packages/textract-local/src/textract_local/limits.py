"""Sizes that Amazon Textract reads (its quotas page), and limits of this reader's own."""

from __future__ import annotations

# Synchronous Textract reads at most 10 MB, whatever the type. The same limit applies here to images of asynchronous
# jobs, which above it read only PDF and TIFF.
SYNC_OCR_LIMIT_BYTES = 10 * 1024 * 1024

# Longest side of an image that Textract reads.
IMAGE_SIDE_LIMIT_PX = 10_000

# Pillow's own warning threshold: 1 GiB of RGBA. Above it a small file can exhaust a small machine.
IMAGE_PIXEL_LIMIT = 89_478_485

# Enough of a file for its signature and, save for rare photos with large metadata in front, its dimensions.
SNIFF_BYTES = 1024 * 1024

# Full responses of one page have been below 2 MiB so far; ten times that still fits easily in memory.
OCR_RESULT_LIMIT_BYTES = 32 * 1024 * 1024
