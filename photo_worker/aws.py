"""AWS sessions from variables: region, credentials, endpoints and proxies of one deployment.

The names are those that botocore reads from the process environment (``AWS_PROFILE``, ``AWS_ENDPOINT_URL_S3``,
``HTTPS_PROXY`` ...) with the same precedence. The process environment itself is not read, so that clients of several
deployments can exist in one process.
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import botocore.session
from botocore.config import Config
from botocore.configprovider import (
    BOTOCORE_DEFAUT_SESSION_VARIABLES,
    DEFAULT_S3_CONFIG_VARS,
    ConfigChainFactory,
    ConfiguredEndpointProvider,
    SectionConfigProvider,
)
from botocore.credentials import (
    AssumeRoleWithWebIdentityProvider,
    BotoProvider,
    ContainerProvider,
    CredentialResolver,
    InstanceMetadataProvider,
    OriginalEC2Provider,
    create_credential_resolver,
)
from botocore.exceptions import BotoCoreError

from photo_worker.errors import ConfigurationError
from photo_worker.loopback import EVERY_HOST, EXCEPTIONS, is_loopback, joined
from photo_worker.userinfo import without_userinfo

if TYPE_CHECKING:
    import boto3

_WEB_IDENTITY = {
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
    "role_arn": "AWS_ROLE_ARN",
}


def aws_session(variables: Mapping[str, str]) -> boto3.Session:
    """Return a session that reads ``variables`` in place of the process environment.

    An empty variable counts as not set. ``AWS_REGION``, which all other AWS SDKs read, has precedence over
    ``AWS_DEFAULT_REGION``. Clients use no proxy for loopback addresses.

    Raises:
        ConfigurationError: if ``AWS_PROFILE`` names no profile, or a file of profiles cannot be read.
    """
    import boto3

    try:
        return boto3.Session(botocore_session=_Session(variables))
    except BotoCoreError as error:
        raise ConfigurationError(problems=without_userinfo(f"AWS: {error}")) from error


class _Session(botocore.session.Session):
    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__()
        given = {name: value for name, value in variables.items() if value.strip()}
        self._proxies = _proxies(variables)
        if "AWS_REGION" in given:
            given["AWS_DEFAULT_REGION"] = given["AWS_REGION"]
        self._given = given
        store = self.get_component("config_store")
        for name, provider in self._chains(BOTOCORE_DEFAUT_SESSION_VARIABLES).items():
            store.set_config_provider(name, provider)
        store.set_config_provider("s3", SectionConfigProvider("s3", self, self._chains(DEFAULT_S3_CONFIG_VARS)))
        self.lazy_register_component("credential_provider", self._credentials_from_variables)

    def _chains(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        factory = ConfigChainFactory(self, environ=self._given)
        return {
            name: factory.create_config_chain(
                instance_name=name,
                env_var_names=environment,
                config_property_names=in_file,
                default=default,
                conversion_func=convert,
            )
            for name, (in_file, environment, default, convert) in variables.items()
        }

    def create_client(self, service_name: str, *args: Any, **options: Any) -> Any:
        """Return a client with the endpoint, certificates and proxies of the variables.

        botocore's sources of temporary credentials call this as well.
        """
        endpoint = options["endpoint_url"] = options.get("endpoint_url") or self._endpoint_of(service_name)
        if options.get("verify") is None:
            options["verify"] = self.get_config_variable("ca_bundle") or self._given.get("REQUESTS_CA_BUNDLE", True)
        own = Config(
            proxies=self._proxies_for(endpoint) if endpoint else {},
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
        )
        asked: Config = options.pop("config", None) or Config()
        client = self._create(service_name, *args, config=asked.merge(own), **options)
        if endpoint is None and (proxies := self._proxies_for(client.meta.endpoint_url)):
            # Only the client knows the address that AWS' own endpoint rules give.
            client.close()
            own = own.merge(Config(proxies=proxies))
            client = self._create(service_name, *args, config=asked.merge(own), **options)
        return client

    def _create(self, *args: Any, **options: Any) -> Any:
        return super().create_client(*args, **options)

    def _endpoint_of(self, service_name: str) -> str | None:
        if self.get_config_variable("ignore_configured_endpoint_urls"):
            return None
        endpoint: str | None = ConfiguredEndpointProvider(
            full_config=self.full_config,
            scoped_config=self.get_scoped_config(),
            client_name=service_name,
            environ=self._given,
        ).provide()
        return endpoint

    def _proxies_for(self, endpoint: str) -> dict[str, str]:
        """Return the proxies by scheme, none if the endpoint is loopback or an exception.

        A star among several exceptions excludes every host, as it does alone.
        """
        proxies = self._proxies
        if not proxies and sys.platform == "darwin":
            proxies = urllib.request.getproxies_macosx_sysconf()
        exceptions = joined(self._given.get(name, "") for name in EXCEPTIONS)
        host = urlsplit(endpoint).hostname or ""
        if not proxies or is_loopback(host) or exceptions == EVERY_HOST:
            return {}
        return {} if proxy_bypass_environment(host, {"no": exceptions}) else proxies

    def _credentials_from_variables(self) -> CredentialResolver:
        """Return botocore's chain of sources with those that read the process environment replaced."""
        given = self._given
        resolver = create_credential_resolver(self)
        # A profile's ``credential_source`` uses the same object.
        environment: Any = resolver.get_provider("env")
        environment.environ = given
        own = [OriginalEC2Provider(environ=given), BotoProvider(environ=given), ContainerProvider(environ=given)]
        for provider in (*own, self._web_identity()):
            method = str(provider.METHOD)
            resolver.insert_after(method, provider)
            resolver.remove(method)
        if given.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            resolver.remove(str(InstanceMetadataProvider.METHOD))
        return resolver

    def _web_identity(self) -> AssumeRoleWithWebIdentityProvider:
        profile = self.get_config_variable("profile") or "default"
        given = {key: self._given[name] for key, name in _WEB_IDENTITY.items() if name in self._given}

        def load_config() -> dict[str, Any]:
            profiles = self.full_config.get("profiles", {})
            return {"profiles": {**profiles, profile: {**profiles.get(profile, {}), **given}}}

        return AssumeRoleWithWebIdentityProvider(
            load_config=load_config,
            client_creator=self.create_client,
            profile_name=profile,
            disable_env_vars=True,
        )


def _proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies by scheme. A name in lower case has precedence, and one without a value means no proxy.

    So does Python's own ``urllib.request.getproxies_environment``, which reads the process environment.
    """
    found: dict[str, str] = {}
    for name, value in sorted(variables.items(), key=lambda entry: entry[0].islower()):
        scheme, _, rest = name.lower().rpartition("_")
        if rest == "proxy" and scheme != "no":
            if value.strip():
                found[scheme] = value
            elif name.islower():
                found.pop(scheme, None)
    return found
