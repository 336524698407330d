"""The guard that LocalStack runs in its container, with the rules file that the native stack uses."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from textract_local import origins

GUARD = Path(__file__).resolve().parents[4] / "compose" / "localstack" / "guard.py"


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The handlers of a gateway once the guard has run in its process."""
    installed: list[Any] = []
    gateway = SimpleNamespace(request_handlers=installed)
    runtime = ModuleType("localstack.runtime")
    vars(runtime)["get_current_runtime"] = lambda: SimpleNamespace(components=SimpleNamespace(gateway=gateway))
    monkeypatch.setitem(sys.modules, "localstack", ModuleType("localstack"))
    monkeypatch.setitem(sys.modules, "localstack.runtime", runtime)
    monkeypatch.setenv("PHOTO_WORKER_GUARD", str(Path(origins.__file__).parent))
    spec = spec_from_file_location("localstack_guard", GUARD)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))
    return installed


def handled(handlers: list[Any], **headers: str) -> tuple[Mock, Mock]:
    chain, response = Mock(), Mock(status_code=200)
    request = SimpleNamespace(headers=list(headers.items()), query_string=b"")
    handlers[0](chain, SimpleNamespace(request=request), response)
    return chain, response


def test_localstack_guard_page_of_other_origin_is_refused(handlers: list[Any]) -> None:
    chain, response = handled(handlers, Host="127.0.0.1:4566", Origin="https://example.com")
    assert response.status_code == 403
    assert json.loads(response.set_data.call_args.args[0])["__type"] == "AccessDeniedException"
    chain.terminate.assert_called_once_with()


def test_localstack_guard_program_is_let_through(handlers: list[Any]) -> None:
    chain, response = handled(handlers, Host="127.0.0.1:4566")
    assert response.status_code == 200
    chain.terminate.assert_not_called()
