"""botocore's Textract client with Smithy RPC v2 CBOR, by a service model that lists no other protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.config import Config
from botocore.loaders import Loader

from textract_support.clients import session_of

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

PROTOCOL = "smithy-rpc-v2-cbor"


def cbor_client(directory: Path, variables: Mapping[str, str], url: str) -> TextractClient:
    """Return a client without retries; ``directory`` receives its copy of the service's model."""
    model = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH]).load_service_model("textract", "service-2")
    model["metadata"] |= {"protocols": [PROTOCOL], "protocol": PROTOCOL}
    path = directory / "textract" / model["metadata"]["apiVersion"] / "service-2.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(model), encoding="utf-8")
    session = session_of(variables)
    # A separate loader, so that the other sessions do not find the second model.
    loader = Loader(extra_search_paths=[str(directory), Loader.BUILTIN_DATA_PATH])
    session._session.register_component("data_loader", loader)
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=16, read_timeout=60)
    return session.client("textract", endpoint_url=url, config=config)
