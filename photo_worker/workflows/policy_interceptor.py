"""Passes policies from the worker to its workflows, which Temporal constructs without arguments and in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from temporalio import workflow
from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

_Policies = TypeVar("_Policies")

# Name of the function that workflows find among those that their worker gives them.
POLICIES_OF = "photo_worker_policies_of"


class PolicyInterceptor(Interceptor):
    """Gives each workflow type its policies. They must not change while the worker runs."""

    def __init__(self, policies: Mapping[str, object]) -> None:
        """``policies`` are by workflow type; a type that is not there has its default."""
        self._policies = dict(policies)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Add the function that ``policies_of_worker`` calls."""
        input.unsafe_extern_functions[POLICIES_OF] = self._policies.get
        return None


def policies_of_worker(default: _Policies) -> _Policies:
    """Return the policies that the worker passes to the current workflow's type.

    They are ``default`` if it passes none, as the replay gate does: recorded commands have their policies in them.
    """
    given = workflow.extern_functions().get(POLICIES_OF)
    found = None if given is None else given(workflow.info().workflow_type)
    return default if found is None else cast(_Policies, found)
