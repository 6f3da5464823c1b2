"""One line for each way in which a store can refuse, with the remedy. No line holds a key or a signature."""

from __future__ import annotations

import re

from .address import Address

_CODE = re.compile(r"<Code>(\w+)</Code>|\"(?:code|error|reason)\"\s*:\s*\"(\w+)\"", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3})|Status \{ status: (\d{3})|HTTP error: (\d{3})|\((\d{3}) ")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'|x-amz-bucket-region: ([\w-]+)", re.IGNORECASE)
_QUERY = re.compile(r"\?[^\s\"'>)]*")
_MOST = 200
_FINAL = ("PermissionDeniedError", "UnauthenticatedError", "NotSupportedError", "InvalidPathError")

_BUSY, _SLOW = "the store is too busy", "did not answer in time; check the network"
_AWAY = "cannot be reached; check the address"
"""In the lines for a store that does not answer now."""
_KEYS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the host a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or give the host one",
    "hf": "run hf auth login, or set HF_TOKEN",
}
_ACTIONS = {
    "s3": "s3:ListBucket, s3:GetObject, and for --out s3:PutObject and s3:DeleteObject",
    "gs": "storage.objects.list and get, and for --out create and delete",
    "az": "Storage Blob Data Reader, and for --out Contributor",
}
_BAD_KEYS = {
    *("invalidaccesskeyid", "signaturedoesnotmatch", "expiredtoken", "invalidtoken", "tokenrefreshrequired"),
    *("authenticationfailed", "invalidauthenticationinfo", "invalid_grant", "unrecognizedclientexception"),
}
_NO_KEYS = (
    *("169.254.169.254", "metadata.google.internal", "missing credential", "error getting credentials"),
    *(
        "no credential",
        "instance metadata",
        "missing access key",
        "could not find default credentials",
        "account must be specified",
    ),
)
_NO_NAME = (
    "dns error",
    "failed to lookup address",
    "name or service not known",
    "name resolution",
    "nodename nor servname",
)
_NO_ANSWER = (
    "connection refused",
    "connection reset",
    "connection closed",
    "error sending request",
    "tcp connect error",
)
_LATE = ("timed out", "timedout", "operation timed out", "timeout")
_NO_PLACE = {"nosuchbucket", "containernotfound", "invalidbucketname", "notfound", "no_such_bucket"}
_ELSEWHERE = {"permanentredirect", "authorizationheadermalformed", "illegallocationconstraintexception"}


def code_of(error: BaseException) -> str:
    """The code that the server gave, in lower case; empty without one."""
    found = _CODE.search(str(error))
    return (found[1] or found[2]).lower() if found else ""


def status_of(error: BaseException) -> int:
    """The HTTP status; 0 if the error has none."""
    found = _STATUS.search(str(error))
    return int(next(part for part in found.groups() if part)) if found else 0


def is_missing(error: BaseException) -> bool:
    """Whether there is no such object."""
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "NotFoundError"


def is_cut(error: BaseException) -> bool:
    """Whether an answer had begun and was cut short."""
    return "response body error" in str(error).lower()


def is_final(error: BaseException) -> bool:
    """Whether the same request would be refused again."""
    return is_missing(error) or type(error).__name__ in _FINAL or code_of(error) in _BAD_KEYS | _ELSEWHERE | _NO_PLACE


def describe(error: BaseException, address: Address) -> str:
    """What is wrong and what to do about it, without the address."""
    text = str(error)
    low, code, status, scheme = (
        text.lower().replace("retry_timeout", ""),
        code_of(error),
        status_of(error),
        address.scheme,
    )
    place = f"the {'container' if scheme == 'az' else 'bucket'} {address.place}"
    if code in _ELSEWHERE or status in (301, 307, 308) or "incorrectly configured region" in low:
        region = _REGION.search(text)
        named = next((part for part in region.groups() if part), "") if region else ""
        return f"{place} is in another region; set AWS_REGION{f'={named}' if named else ' to its own'}"
    if code in _BAD_KEYS or (status == 401 and scheme != "hf"):
        return f"the keys are refused ({code or status}); {_KEYS.get(scheme, 'the address must be public')}"
    if any(one in low for one in _NO_KEYS):  # first: a host without a role asks a name that is not there
        return f"no keys were found; {_KEYS.get(scheme, 'the address must be public')}"
    if any(one in low for one in _NO_NAME):
        return f"the name of {_endpoint(address)} does not resolve; check it, and the network"
    return _by_status(error, address, place, low, code, status)


def _by_status(error: BaseException, address: Address, place: str, low: str, code: str, status: int) -> str:
    scheme = address.scheme
    if code in _NO_PLACE and scheme in _ACTIONS:
        return f"{place} does not exist; check its name, and the endpoint and account that the environment names"
    if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        allowed = (
            f"it needs {_ACTIONS[scheme]}" if scheme in _ACTIONS else _KEYS.get(scheme, "the address must be public")
        )
        return f"permission denied ({code or status or 'refused'}); ask for access: {allowed}"
    if is_missing(error) or status == 404:
        return "there is no such object; check the key"
    if type(error).__name__ == "NotSupportedError":
        return (
            "the server sends no parts of files, which Parquet and a resumed read need; download it and give that path"
        )
    if status == 429 or code in ("slowdown", "toomanyrequests", "serverbusy") or status == 503:
        return f"{_BUSY} ({code or status}); run the same command again later, or with fewer nodes at once"
    if any(one in low for one in _LATE):
        return f"{_endpoint(address)} {_SLOW}, and run the same command again"
    if any(one in low for one in _NO_ANSWER):
        return f"{_endpoint(address)} {_AWAY}, the network, and AWS_ENDPOINT_URL and the like"
    return f"{_shortened(error)}; check the address and the environment"


def may_return(line: str) -> bool:
    """Whether an error text contains a line of `describe` about a store that does not answer now, but may answer later.

    It goes by the words, since what raises such an error (a reader of the source, a mirror, a probe, a lock: errors of several
    classes and exit codes) and what asks are up to four processes apart, between which an error is a text. All words are above.
    """
    return any(one in line for one in (_BUSY, _SLOW, _AWAY))


def _endpoint(address: Address) -> str:
    from .stores import endpoint_of

    return endpoint_of(address)


def _shortened(error: BaseException) -> str:
    """The first line of an error without the queries of URLs, which may hold signatures."""
    line = _QUERY.sub("", (str(error).strip().splitlines() or [type(error).__name__])[0])
    return line if len(line) <= _MOST else f"{line[:_MOST]}…"
