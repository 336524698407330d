"""AWS sessions from variables: they have the names that botocore reads, and nothing of the process environment."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from photo_worker.aws import aws_session
from tests.support.s3_responses import Response, s3_responding

KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"}
FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def test_aws_session_ignores_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_REGION": "us-west-2",
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://other.invalid",
        "AWS_ENDPOINT_URL_S3": "http://other.invalid",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_S3_USE_ARN_REGION": "true",
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
        "HTTPS_PROXY": "http://proxy.invalid",
    }.items():
        monkeypatch.setenv(name, value)
    session = aws_session({**FILES, **KEYS})
    credentials = session.get_credentials()
    assert credentials is not None
    assert (credentials.access_key, credentials.token) == ("first", None)
    with closing(session.client("s3")) as client:
        assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
        assert proxies_of(client) == {}
    # The stubs say that it never returns None.
    nothing: Any = aws_session({**FILES, "AWS_EC2_METADATA_DISABLED": "true"})
    assert nothing.region_name is None
    assert nothing.get_credentials() is None


def proxies_of(client: Any) -> Any:
    return client._endpoint.http_session._proxy_config._proxies


def test_two_sessions_sign_with_their_own_keys() -> None:
    with s3_responding(lambda _: Response()) as one, s3_responding(lambda _: Response()) as two:
        first = aws_session({**KEYS, "AWS_ENDPOINT_URL_S3": one.url}).client("s3")
        second = aws_session(
            {**KEYS, "AWS_ACCESS_KEY_ID": "second", "AWS_REGION": "us-west-2", "AWS_ENDPOINT_URL": two.url}
        ).client("s3")
        for client in (first, second, first):
            client.get_object(Bucket="photos", Key="pie.jpg")
        first.close()
        second.close()
    signed = [[request.headers["authorization"] for request in server.requests] for server in (one, two)]
    assert [len(each) for each in signed] == [2, 1]
    assert all("Credential=first/" in each and "/eu-central-1/s3/" in each for each in signed[0])
    assert "Credential=second/" in signed[1][0]
    assert "/us-west-2/s3/" in signed[1][0]


def test_aws_session_reads_profile_and_its_endpoint(tmp_path: Path) -> None:
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    with s3_responding(lambda _: Response(body=b"body")) as server:
        config.write_text(
            "[profile kitchen]\nregion = eu-north-1\nservices = own\n"
            f"[services own]\ns3 =\n  endpoint_url = {server.url}\n"
        )
        credentials.write_text("[kitchen]\naws_access_key_id = cook\naws_secret_access_key = pie\n")
        session = aws_session(
            {
                "AWS_PROFILE": "kitchen",
                "AWS_CONFIG_FILE": str(config),
                "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
                "AWS_ACCESS_KEY_ID": " ",
            }
        )
        with closing(session.client("s3")) as client:
            assert client.get_object(Bucket="photos", Key="pie.jpg")["Body"].read() == b"body"
        with closing(session.client("textract")) as other:
            assert other.meta.endpoint_url == "https://textract.eu-north-1.amazonaws.com"
    assert "Credential=cook/" in server.requests[0].headers["authorization"]


def test_aws_session_ignore_variable_ignores_endpoints() -> None:
    variables = {**KEYS, "AWS_ENDPOINT_URL": "http://local.invalid", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    with closing(aws_session(variables).client("textract")) as client:
        assert client.meta.endpoint_url == "https://textract.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("variables", "method"),
    [
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}, "web-identity"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/keys"}, None),
    ],
)
def test_aws_session_reads_roles_of_variables(variables: dict[str, str], method: str | None) -> None:
    session = aws_session({**FILES, "AWS_REGION": "eu-central-1", **variables})
    if method is None:
        # The process that gives the keys is asked, and is not there.
        with pytest.raises(Exception, match="container-role"):
            session.get_credentials()
        return
    credentials = session.get_credentials()
    assert credentials is not None
    assert method in credentials.method


@pytest.mark.parametrize(
    ("exceptions", "proxied"),
    [({}, True), ({"NO_PROXY": "s3.example"}, False), ({"no_proxy": ".example,*"}, False), ({"NO_PROXY": "b"}, True)],
)
def test_aws_session_proxies_are_those_of_variables(exceptions: dict[str, str], proxied: bool) -> None:
    proxy = {"HTTP_PROXY": "http://proxy.invalid:1", **exceptions}
    with closing(aws_session({**KEYS, **proxy, "AWS_ENDPOINT_URL": "http://s3.example"}).client("s3")) as client:
        assert bool(proxies_of(client)) is proxied
    with closing(aws_session({**KEYS, **proxy, "AWS_ENDPOINT_URL": "http://[::1]:9"}).client("s3")) as client:
        assert proxies_of(client) == {}
    with closing(aws_session({**KEYS, **proxy}).client("s3")) as client:
        assert proxies_of(client) == ({} if "*" in str(exceptions) else {"http": "http://proxy.invalid:1"})
