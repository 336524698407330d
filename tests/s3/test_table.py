"""The table of behaviours is complete, and names the versions of the servers that ran."""

from __future__ import annotations

import inspect

from tests.contracts.object_store import ObjectStoreContract
from tests.contracts.s3.case import Endpoint, S3Suite
from tests.contracts.s3.table import BEHAVIOURS, OBJECT_STORE, SERVERS
from tests.s3 import test_behaviours
from tests.s3.servers import version_of


def names_of_tests(kind: type) -> set[str]:
    return {name.removeprefix("test_") for name, _ in inspect.getmembers(kind) if name.startswith("test_")}


def test_behaviours_table_matches_tests() -> None:
    suites = {
        name.removeprefix("Test"): names_of_tests(kind)
        for name, kind in inspect.getmembers(test_behaviours, inspect.isclass)
        if issubclass(kind, S3Suite) and name.startswith("Test")
    }
    table: dict[str, set[str]] = {}
    for name, behaviour in BEHAVIOURS.items():
        table.setdefault(behaviour.group, set()).add(name)
    assert suites == table
    assert OBJECT_STORE.keys() <= names_of_tests(ObjectStoreContract)


def test_behaviours_needed_by_application_are_kept_by_all() -> None:
    needed = {name: behaviour for name, behaviour in BEHAVIOURS.items() if behaviour.needed}
    assert needed
    assert {name: dict(behaviour.not_kept) for name, behaviour in needed.items() if behaviour.not_kept} == {}


def test_behaviours_reasons_name_known_servers() -> None:
    for reasons in [*(behaviour.not_kept for behaviour in BEHAVIOURS.values()), *OBJECT_STORE.values()]:
        assert reasons.keys() <= SERVERS.keys()
        assert all(reason.strip() for reason in reasons.values())


def test_behaviours_table_matches_server_version(server: Endpoint) -> None:
    found = version_of(server)
    assert found in {None, SERVERS[server.name].version}, (
        f"the table is about {SERVERS[server.name].version}; try {found} with the whole of tests/s3, then change the "
        "version in tests/contracts/s3/behaviours.toml"
    )
