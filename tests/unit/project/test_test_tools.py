"""Test tools outside the project's environment are pinned, and built only if they have no wheel."""

from __future__ import annotations

import re

import pytest

from scripts.make_test_tools import REQUIREMENTS, ROOT, parts


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_parts_keeps_all_pins_and_hashes(name: str) -> None:
    text = (ROOT / REQUIREMENTS[name]).read_text("utf-8")
    wheels, built = parts(name)
    pinned = re.findall(r"^(\S+)==", text, re.MULTILINE)
    assert pinned
    assert sorted(re.findall(r"^(\S+)==", wheels + built, re.MULTILINE)) == sorted(pinned)
    assert (wheels + built).count("--hash=sha256:") == text.count("--hash=sha256:")


def test_parts_builds_only_localstack_client_from_source() -> None:
    wheels, built = parts("localstack-client")
    assert re.findall(r"^(\S+)==", built, re.MULTILINE) == ["localstack-client"]
    assert re.findall(r"^(\S+)==", wheels, re.MULTILINE) == ["setuptools"]
    assert parts("seaweedfs")[1] == ""
