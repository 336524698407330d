"""NextTokens: only the ``PageTokens`` with the same key accepts them, and only for the same job."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.server.failures import INVALID_PARAMETER, ServiceError
from textract_local.server.jobs.tokens import PageTokens, new_key

TOKENS = PageTokens(new_key())
JOB, OTHER = "ab" * 32, "cd" * 32


def refused(token: str, job_id: str = JOB, tokens: PageTokens = TOKENS) -> None:
    with pytest.raises(ServiceError) as raised:
        tokens.read(token, job_id)
    assert raised.value.failure is INVALID_PARAMETER


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_page_tokens_round_trip_and_are_deterministic(position: int) -> None:
    token = TOKENS.make(JOB, position)
    assert TOKENS.read(token, JOB) == position
    assert TOKENS.make(JOB, position) == token
    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", token)


def test_page_tokens_of_other_job_or_store_are_refused() -> None:
    refused(TOKENS.make(OTHER, 1000))
    refused(PageTokens(new_key()).make(JOB, 1000))


@given(st.integers(min_value=0, max_value=39), st.sampled_from(string.ascii_letters + string.digits + "-_ é=\n"))
def test_page_tokens_changed_character_is_refused(place: int, letter: str) -> None:
    token = TOKENS.make(JOB, 1000)
    if token[place] != letter:
        refused(token[:place] + letter + token[place + 1 :])


@given(st.text(min_size=1, max_size=60))
def test_page_tokens_any_other_text_is_refused(text: str) -> None:
    refused(text)


@given(st.sampled_from([" ", "=", "A", "\n", "===="]))
def test_page_tokens_prefix_or_suffix_is_refused(more: str) -> None:
    refused(TOKENS.make(JOB, 1000) + more)
    refused(more + TOKENS.make(JOB, 1000))
