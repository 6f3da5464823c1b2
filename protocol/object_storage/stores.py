"""Open a store by obstore (the extra `remote`): keys and endpoints come from the environment and from profiles."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from ..errors import UsageError
from .address import Address
from .aws_profiles import KEYS_OF_ENVIRONMENT, Profile

Store = Any
"""A store of obstore, which has no common type for all kinds."""

PATIENCE = 180.0
"""Seconds for which the library repeats a request that a busy server refused, or that got no answer."""
PROBE_PATIENCE = 12.0
"""The same before a run begins: a wrong name must not look like a slow one."""
REQUEST_SECONDS = 60
CONNECT_SECONDS = 5


def open_store(address: Address, patience: float = PATIENCE) -> Store:
    """The store of a bucket, a container or a web server; UsageError if the extra or keys are missing."""
    if find_spec("obstore") is None:
        raise UsageError(f"{address}: object storage needs obstore: pip install 'embedfleet[remote]'")
    return _opened(os.getpid(), address.scheme, address.place, patience)


def endpoint_of(address: Address) -> str:
    """The server's name, for messages."""
    match address.scheme:
        case "s3":
            return urlsplit(_s3_endpoint() or "").netloc or "S3"
        case "gs":
            return "Google Cloud Storage"
        case "az":
            return "Azure Blob Storage"
        case "hf":
            return urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).netloc
        case _:
            return address.place


@lru_cache(maxsize=32)
def _opened(_process: int, scheme: str, place: str, patience: float) -> Store:
    """One store for all requests of a process: it keeps connections and tokens. A fork opens its own."""
    from obstore.store import AzureStore, GCSStore, HTTPStore

    retry: Any = {
        "max_retries": 4 if patience == PROBE_PATIENCE else 10,
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
        "retry_timeout": timedelta(seconds=patience),
    }
    match scheme:
        case "s3":
            return _s3(place, patience, retry)
        case "gs":
            return GCSStore(place, client_options=_client("", patience), retry_config=retry)
        case "az":
            return AzureStore(place, client_options=_client("", patience), retry_config=retry)
        case _:
            base = f"{scheme}://{place}"
            return HTTPStore.from_url(base, client_options=_client(base, patience), retry_config=retry)


def _client(endpoint: str, patience: float) -> Any:
    return {
        "timeout": timedelta(seconds=min(REQUEST_SECONDS, 3 * patience)),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "allow_http": endpoint.startswith("http://"),
        "user_agent": "embedfleet",
    }


def _s3_endpoint() -> str | None:
    return next(
        (os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if os.environ.get(name)), None
    )


def _s3(bucket: str, patience: float, retry: Any) -> Store:
    from obstore.store import S3Store

    profile = Profile()
    settings = profile.settings()
    config: Any = dict(profile.keys())
    endpoint = _s3_endpoint() or settings.get("endpoint_url")
    if endpoint:
        config["endpoint"] = endpoint
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or settings.get("region")
    config["region"] = region or "us-east-1"
    provider: Any = None
    if not config.get("access_key_id") and profile.needs_more() and not _keys_in_environment():
        from obstore.auth.boto3 import Boto3CredentialProvider

        provider = Boto3CredentialProvider()
    elif not config.get("access_key_id") and not _keys_in_environment():
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
            config["skip_signature"] = True
        elif os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise UsageError(
                f"s3://{bucket}: no keys were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
    return S3Store(
        bucket,
        config=config,
        client_options=_client(endpoint or "", patience),
        retry_config=retry,
        credential_provider=provider,
    )


def _keys_in_environment() -> bool:
    return any(os.environ.get(name) for name in KEYS_OF_ENVIRONMENT)
