"""NextTokens: only the ``PageTokens`` with the same key accepts them, and only for the same job."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_worker.devkit.textract.failures import INVALID_PARAMETER, ServiceError
from photo_worker.devkit.textract.jobs.tokens import PageTokens, new_key

TOKENS = PageTokens(new_key())
JOB, OTHER = "ab" * 32, "cd" * 32


def refused(token: str, job_id: str = JOB, tokens: PageTokens = TOKENS) -> None:
    with pytest.raises(ServiceError) as raised:
        tokens.read(token, job_id)
    assert raised.value.failure is INVALID_PARAMETER


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_a_token_is_read_back_and_always_the_same(position: int) -> None:
    token = TOKENS.make(JOB, position)
    assert TOKENS.read(token, JOB) == position
    assert TOKENS.make(JOB, position) == token
    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", token)


def test_another_jobs_and_another_stores_are_refused() -> None:
    refused(TOKENS.make(OTHER, 1000))
    refused(PageTokens(new_key()).make(JOB, 1000))


@given(st.integers(min_value=0, max_value=39), st.sampled_from(string.ascii_letters + string.digits + "-_ é=\n"))
def test_one_changed_letter_is_noticed(place: int, letter: str) -> None:
    token = TOKENS.make(JOB, 1000)
    if token[place] != letter:
        refused(token[:place] + letter + token[place + 1 :])


@given(st.text(min_size=1, max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    refused(text)


@given(st.sampled_from([" ", "=", "A", "\n", "===="]))
def test_nothing_may_be_added_to_a_token(more: str) -> None:
    refused(TOKENS.make(JOB, 1000) + more)
    refused(more + TOKENS.make(JOB, 1000))
