"""Every error that Microsoft's SDKs can raise becomes one of ours, and no text of theirs goes on."""

from __future__ import annotations

import inspect
import json
import ssl
from functools import partial
from types import SimpleNamespace
from typing import Any

import azure.core.exceptions
import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError

from insitu.adapters.azure.answers import translated
from insitu.adapters.azure.workspace import Workspace
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, RegistryFailed
from insitu.settings import AzureSettings

GUID = "00000000-0000-4000-8000-000000000000"
PLANTED = "planted-sig=secret"
KINDS = [
    kind
    for _, kind in inspect.getmembers(azure.core.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == "azure.core.exceptions" and kind.__name__.endswith("Error")
]


def raised(error: Exception, **options: Any) -> InsituError:
    with pytest.raises(InsituError) as caught, translated("the service", **options):
        raise error
    assert PLANTED not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


def made(kind: type[Exception]) -> Exception:
    if kind.__name__ in ("StreamConsumedError", "StreamClosedError", "ResponseNotReadError"):
        return kind(SimpleNamespace(request=PLANTED))
    if kind.__name__ == "TooManyRedirectsError":
        return kind([])
    if kind.__name__ == "ODataV4Error":
        return answered(500, kind=kind)
    return kind(PLANTED)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_of_the_sdk_is_translated(kind: type[Exception]) -> None:
    assert len(KINDS) >= 15
    error = raised(made(kind))
    assert isinstance(error, AccessRefused if issubclass(kind, ClientAuthenticationError) else BackendUnavailable)
    assert "the service" in error.what


def answered(status: int, code: str = "SomeCode", kind: type[Any] = HttpResponseError) -> Exception:
    body = json.dumps({"error": {"code": code, "message": PLANTED}})
    response = SimpleNamespace(
        status_code=status, reason=PLANTED, text=lambda *_: body, body=lambda: body.encode(), headers={}
    )
    error: Exception = kind(response=response)
    return error


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RegistryFailed), (401, AccessRefused), (403, AccessRefused), (404, RegistryFailed),
        (408, BackendUnavailable), (409, RegistryFailed), (412, RegistryFailed), (429, BackendUnavailable),
        (500, BackendUnavailable), (502, BackendUnavailable), (503, BackendUnavailable), (504, BackendUnavailable),
    ],
)  # fmt: skip
def test_a_status_tells_which_error_it_is_and_the_code_goes_on(status: int, expected: type[InsituError]) -> None:
    error = raised(answered(status), refused=RegistryFailed)
    assert type(error) is expected
    assert error.found == f"{status} SomeCode"


def test_a_code_that_is_no_word_is_made_one() -> None:
    assert raised(answered(409, "A <b> &c")).found == "409 Abc"


def test_what_is_no_json_is_no_answer() -> None:
    with pytest.raises(BackendUnavailable), translated("the service"):
        json.loads("<html>")


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_certificate_that_is_not_trusted_is_told_however_deep_it_lies(depth: int) -> None:
    problem = ssl.SSLCertVerificationError(1, PLANTED)
    problem.verify_message = "certificate has expired"
    inner: Exception = problem
    for _ in range(depth):
        outer = AzureError(PLANTED)
        outer.inner_exception = inner
        inner = outer
    error = raised(ServiceRequestError(PLANTED, error=inner))
    assert isinstance(error, AccessRefused)
    assert error.found == "certificate has expired"


def test_an_error_of_ours_goes_through_as_it_is() -> None:
    ours = BackendUnavailable("x")
    with pytest.raises(BackendUnavailable) as caught, translated("the service"):
        raise ours
    assert caught.value is ours


def test_another_error_is_let_through() -> None:
    with pytest.raises(RuntimeError), translated("the service"):
        raise RuntimeError


def kinds_of_the_ml_library() -> list[type[Exception]]:
    from azure.ai.ml import exceptions

    found = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass)]
    return [kind for kind in found if issubclass(kind, exceptions.MlException)]


def test_every_class_of_the_ml_library_is_translated_with_its_cause() -> None:
    settings = AzureSettings(
        subscription=GUID, resource_group="g", workspace="w",
        identity={"tenant": "t", "client_id": GUID, "secret": {"env": "NOT_READ_HERE"}},
    )  # fmt: skip
    kinds = kinds_of_the_ml_library()
    assert len(kinds) >= 15
    for kind in kinds:
        for cause, expected in ((None, RegistryFailed), (ServiceRequestError(PLANTED), BackendUnavailable)):
            with pytest.raises(expected) as caught:
                Workspace(settings).ask(partial(fail_with, kind, cause), refused=RegistryFailed)
            assert PLANTED not in str(caught.value)
            assert caught.value.__suppress_context__


def fail_with(kind: type[Exception], cause: Exception | None, _: object) -> None:
    error = kind.__new__(kind)  # each wants arguments of its own
    Exception.__init__(error, PLANTED)
    raise error from cause
