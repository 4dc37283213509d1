"""What Microsoft's SDKs raise, in our words.

No text of a service or of an SDK goes into an error: both may quote an address, a token or a value. What
goes on is the status, the service's code (one word) and the classes of the exceptions.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
)

from insitu.errors import AccessRefused, BackendUnavailable, InsituError

OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 30,
    "retry_total": 3,
    "retry_read": 1,
    "retry_backoff_factor": 0.4,
}
"""Of every client: a silent connection is noticed in 30 s and tried once more, other faults three times."""

_ENTRA_CODE = re.compile(r"\b(AADSTS\d+|MSIS\d+)\b")
_HTTP_STATUS = re.compile(r"\bHTTP Error: (429|5\d\d)\b")
_PASSING = ("AADSTS90033", "AADSTS50196", "temporarily_unavailable", "server_error")
"""Words of an identity provider that is in trouble itself."""
_MEANINGS = {
    "AADSTS7000215": "the client secret is wrong",
    "AADSTS7000222": "the client secret has expired",
    "AADSTS700016": "the tenant knows no application with this client_id",
    "AADSTS90002": "there is no such tenant",
    "AADSTS700027": "the certificate is not registered for this application, or has expired",
    "AADSTS500011": "the tenant does not know the service that the token is for",
    "AADSTS53003": "a conditional-access policy blocks it",
    "invalid_client": "the identity provider does not accept this client and its credential",
    "unauthorized_client": "this client may not sign in like this",
}


@contextmanager
def translated(what: str, refused: type[InsituError] = AccessRefused, next_action: str | None = None) -> Iterator[None]:
    """Turn SDK errors about *what* (e.g. "the hub's resource manager") into ours.

    Catch `ResourceNotFoundError` and the like inside, where they are an answer.

    Raises:
        BackendUnavailable: No answer, an answer of a service in trouble, or something that is no answer.
        AccessRefused: The identity, a right or the certificate of the other side.
        InsituError: Of class *refused*: the service does not do this for us.
    """
    try:
        yield
    except HttpResponseError as exc:
        raise _of_answer(what, exc, refused, next_action) from None
    except (AzureError, ValueError) as exc:  # ValueError: what is no JSON, or another JSON
        raise _of_silence(what, exc) from None


def _of_answer(what: str, exc: HttpResponseError, refused: type[InsituError], next_action: str | None) -> InsituError:
    status = exc.status_code
    found = f"{status or ''} {code_of(exc)}".strip() or type(exc).__name__
    if isinstance(exc, ClientAuthenticationError) and status is None:
        return refused_sign_in(what, exc)
    if status is None or isinstance(exc, DecodeError):
        return _of_silence(what, exc)
    if status in (408, 429) or status >= 500:
        return BackendUnavailable(f"{what} is in trouble", found=found, next_action="wait, then start again")
    if status == 401:
        return AccessRefused(
            f"{what} does not accept the token",
            found=found,
            next_action="see whether the principal belongs to this directory, and whether the clock is right",
        )
    if status == 403:
        return AccessRefused(
            f"{what} refuses this principal",
            found=found,
            next_action=next_action or "give the principal of the site's settings the role that it needs there",
        )
    return refused(f"{what} refuses a request", found=found, next_action=next_action)


def refused_sign_in(what: str, exc: ClientAuthenticationError) -> InsituError:
    """Return the error of a credential: MSAL hides a connection that failed behind one of its own."""
    if cause := _azure_cause(exc):
        return _of_silence(what, cause)
    text = str(exc)
    if silent := _HTTP_STATUS.search(text):  # MSAL's words for an answer that holds no reason
        return BackendUnavailable(f"{what} is in trouble", found=silent[1], next_action="wait, then start again")
    found = _ENTRA_CODE.search(text)
    word = found[1] if found else next((word for word in (*_PASSING, *_MEANINGS) if word in text), "")
    if word in _PASSING or (exc.status_code or 0) >= 500 or exc.status_code == 429:
        next_action = "wait, then start again"
        return BackendUnavailable(f"{what} is in trouble", found=word or str(exc.status_code), next_action=next_action)
    if not word and isinstance(exc.__cause__, ValueError):
        return BackendUnavailable(
            f"{what} does not answer as an identity provider does",
            found=type(exc.__cause__).__name__,
            next_action="see whether authority and tenant of the site's identity are right",
        )
    return AccessRefused(
        f"{what} refuses to sign this principal in",
        found=" ".join(filter(None, [word, _MEANINGS.get(word)])) or type(exc).__name__,
        next_action="see to tenant, client_id and the secret or certificate that the site's identity names",
    )


def code_of(exc: HttpResponseError) -> str:
    """Return the service's code for an error, one word, or nothing."""
    code = getattr(exc.error, "code", None) or ""
    return "".join(re.findall(r"\w+", str(code)))[:64]


def certificate_problem(exc: BaseException) -> str | None:
    """Return what OpenSSL says of a certificate that is not trusted, wherever in *exc* it is; it quotes no secret."""
    seen: set[int] = set()
    found = [exc]
    while found:
        inner = found.pop()
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        if isinstance(inner, ssl.SSLCertVerificationError):
            return inner.verify_message
        hidden = (getattr(inner, name, None) for name in ("inner_exception", "reason"))
        around = [inner.__cause__, inner.__context__, *hidden, *inner.args]
        found += [one for one in around if isinstance(one, BaseException)]
    return None


def _of_silence(what: str, exc: BaseException) -> InsituError:
    if problem := certificate_problem(exc):
        return AccessRefused(
            f"the certificate of {what} is not trusted",
            found=problem,
            next_action="name the PEM file of every authority in ca_bundle of the site's [network], "
            "or have the certificate renewed",
        )
    found = _reason(exc)
    next_action = "see whether it runs, and whether [network] of the site and the addresses are right"
    return BackendUnavailable(f"{what} does not answer", found=found, next_action=after_silence(found, next_action))


def after_silence(found: str, next_action: str) -> str:
    """Return *next_action*, unless the classes of the exception say that it is the proxy that does not answer."""
    if "ProxyError" not in found:
        return next_action
    return "see whether the proxy runs that [network] of the site or HTTPS_PROXY names, and lets this host through"


def _reason(exc: BaseException) -> str:
    """Return the classes of an exception and of what is within."""
    inner = getattr(exc, "inner_exception", None) or exc.__cause__
    return type(exc).__name__ if inner is None else f"{type(exc).__name__} ({type(inner).__name__})"


def _azure_cause(exc: BaseException) -> BaseException | None:
    """Return the connection's error that a sign-in failed by, if it did."""
    inner: BaseException | None = exc.__cause__ or exc.__context__
    while inner is not None:
        if isinstance(inner, AzureError | OSError) and not isinstance(inner, ClientAuthenticationError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return None
