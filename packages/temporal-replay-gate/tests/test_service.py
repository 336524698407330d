"""The client and the workers of ``record`` and ``check --from-server`` have the options that ``check`` replays with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.worker import Interceptor
from temporalio.worker.workflow_sandbox import SandboxRestrictions

from temporal_replay_gate import Hooks, WorkerOptions
from temporal_replay_gate.errors import ReplayTargetInvalid
from temporal_replay_gate.service import VariablesService
from temporal_replay_gate.target import worker_options

ENCODED = dataclasses.replace(
    DataConverter.default, failure_converter_class=DefaultFailureConverterWithEncodedAttributes
)
OTHER = dataclasses.replace(DataConverter.default)
OPTIONS = WorkerOptions(
    converter=ENCODED,
    interceptors=(Interceptor(),),
    restrictions=SandboxRestrictions.default.with_passthrough_modules("somewhere"),
    failure_types=(KeyError,),
)


async def converter_of_client(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> Any:
    used: list[Any] = []

    async def connect(*, data_converter: DataConverter, **_: Any) -> None:
        used.append(data_converter)

    monkeypatch.setattr(Client, "connect", connect)
    await VariablesService(hooks).connect()
    return used[0]


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        (Hooks(), DataConverter.default),
        (Hooks(converter=f"{__name__}:OTHER"), OTHER),
        (Hooks(worker_options=f"{__name__}:OPTIONS"), ENCODED),
        (Hooks(converter=f"{__name__}:OTHER", worker_options=f"{__name__}:OPTIONS"), OTHER),
    ],
    ids=["none", "converter", "options", "both"],
)
async def test_connect_uses_the_converter_of_a_replay(
    hooks: Hooks, expected: DataConverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = hooks.code()
    assert worker_options(code.converter, code.options).converter is expected
    assert await converter_of_client(hooks, monkeypatch) is expected


async def test_connect_finds_a_converter_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from temporalio.converter import DataConverter\nMINE = DataConverter()\n"
    (tmp_path / "converter_of_this_directory.py").write_text(text, encoding="utf-8")
    used = await converter_of_client(Hooks(converter="converter_of_this_directory:MINE"), monkeypatch)
    assert isinstance(used, DataConverter)
    assert used is not DataConverter.default


@pytest.mark.parametrize("hooks", [Hooks(worker_options="json:JSONDecoder"), Hooks(converter="nowhere:X")])
async def test_connect_wrong_path_is_reported(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReplayTargetInvalid):
        await converter_of_client(hooks, monkeypatch)


async def test_runner_worker_has_the_options_of_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    nothing: Any = None

    def noted(client: Client, **options: Any) -> Any:
        given.update(options)

    service = VariablesService(Hooks(worker_options=f"{__name__}:OPTIONS"), noted)

    async def connect() -> Client:
        return cast("Client", nothing)

    monkeypatch.setattr(service, "connect", connect)
    async with service.runner(nothing) as runner:
        runner.make_worker(nothing, "queue", [], [], nothing)
    assert given["interceptors"] == OPTIONS.interceptors
    assert given["workflow_failure_exception_types"] == OPTIONS.failure_types
    assert given["workflow_runner"].restrictions == OPTIONS.restrictions
