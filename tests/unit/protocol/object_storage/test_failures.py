"""One line with the remedy for each refusal of a store."""

from __future__ import annotations

import pytest
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.failures import describe, is_cut, is_final

S3 = Address("s3", "box", "a/b")


class PermissionDeniedError(Exception):
    """As the library names it."""


def _body(code: str, more: str = "") -> str:
    return f"status code: 403: <Error><Code>{code}</Code>{more}</Error>"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Exception(_body("InvalidAccessKeyId")), "the keys are refused (invalidaccesskeyid); set AWS_ACCESS_KEY_ID"),
        (Exception(_body("SignatureDoesNotMatch")), "the keys are refused"),
        (Exception(_body("ExpiredToken")), "the keys are refused"),
        (Exception(_body("AccessDenied")), "permission denied (accessdenied); ask for access: it needs s3:ListBucket"),
        (PermissionDeniedError("no"), "permission denied (refused)"),
        (Exception(_body("NoSuchBucket")), "the bucket box does not exist"),
        (
            Exception(_body("PermanentRedirect", "<Region>eu-west-1</Region>")),
            "in another region; set AWS_REGION=eu-west-1",
        ),
        (Exception(_body("AuthorizationHeaderMalformed", "expecting 'eu-north-1'")), "set AWS_REGION=eu-north-1"),
        (Exception("dns error: failed to lookup address information"), "does not resolve"),
        (Exception("Error getting credentials from EC2 instance role: 169.254.169.254"), "no keys were found"),
        (Exception("tcp connect error: Connection refused (os error 111)"), "cannot be reached"),
        (Exception("operation timed out"), "did not answer in time"),
        (Exception("status code: 503 <Code>SlowDown</Code>"), "too busy (slowdown)"),
        (FileNotFoundError("x"), "there is no such object"),
        (Exception("odd https://host/x?X-Amz-Signature=abc happened\nand more"), "odd https://host/x happened;"),
    ],
)
def test_each_refusal_has_its_line(error: Exception, line: str) -> None:
    assert line in describe(error, S3)
    assert "\n" not in describe(error, S3)
    assert "Signature=abc" not in describe(error, S3)


def test_other_stores_have_other_remedies() -> None:
    assert "AZURE_STORAGE_ACCOUNT_KEY" in describe(Exception("status code: 401"), Address("az", "box", ""))
    assert "GOOGLE_APPLICATION_CREDENTIALS" in describe(
        Exception("could not find default credentials"), Address("gs", "box", "")
    )


def test_what_a_second_attempt_cannot_change_is_final() -> None:
    assert is_final(PermissionDeniedError("no"))
    assert is_final(Exception(_body("NoSuchBucket")))
    assert is_final(FileNotFoundError("x"))
    assert not is_final(Exception("status code: 503 <Code>SlowDown</Code>"))
    assert not is_final(Exception("operation timed out"))


def test_an_answer_that_was_cut_short_is_told_from_a_server_that_does_not_answer() -> None:
    assert is_cut(Exception("Error getting list response body: HTTP error: request or response body error"))
    assert not is_cut(Exception("status code: 503 <Code>SlowDown</Code>"))
    assert not is_cut(Exception("tcp connect error: Connection refused (os error 111)"))
