"""Run by LocalStack as it starts, in its own process: puts the stack's rules in front of everything that it serves.

LocalStack itself refuses pages of other origins on SNS and SQS, lets them write to S3, and looks at no Host. Its
gateway is a list of handlers; this one becomes the first, and ends the request where the rules refuse it.
"""

import json
import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

DIRECTORY = Path(os.environ.get("PHOTO_WORKER_GUARD", "/usr/local/lib/photo-worker"))


def load_rules() -> ModuleType:
    """Load the rules, the same file that the native stack uses; raises ``ImportError``."""
    spec = spec_from_file_location("photo_worker_rules", DIRECTORY / "origins.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no {DIRECTORY / 'origins.py'}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load_rules()
VARIABLE = "PHOTO_WORKER_ALLOWED_HOSTS"
RULES = MODULE.OriginRules(
    MODULE.split_hosts(os.environ.get(VARIABLE, "")),
    program="photo-worker",
    remedy=f"start the service with the name in {VARIABLE} (comma-separated)",
)


def refuse_pages(chain: Any, context: Any, response: Any) -> None:
    """Respond with 403 to what the rules refuse."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in context.request.headers]
    reason = RULES.refusal(headers, context.request.query_string)
    if reason is not None:
        response.status_code = 403
        response.mimetype = "application/json"
        response.set_data(json.dumps({"__type": "AccessDeniedException", "message": reason}))
        # Not `stop`: the handlers of responses would permit the page to read this.
        chain.terminate()


def install() -> None:
    """Make it the gateway's first handler."""
    from localstack.runtime import get_current_runtime

    get_current_runtime().components.gateway.request_handlers.insert(0, refuse_pages)


install()
