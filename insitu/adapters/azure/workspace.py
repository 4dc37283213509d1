"""The Azure Machine Learning workspace, through Microsoft's own client; nothing of it is imported before it is asked.

Names are chosen here and looked for before something is created, so the SDK's own retries and a second
start find what the first one made.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cache, cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)

from insitu.adapters.azure.answers import OPTIONS, translated
from insitu.adapters.azure.identity import Identity, azure_identity
from insitu.errors import AccessRefused, BackendUnavailable, InsituError
from insitu.ports import Check
from insitu.settings import AzureMlTraining, AzureSettings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

T = TypeVar("T")
_UPLOADS = 3


class Workspace:
    """One workspace, signed in to as the site says; safe for threads."""

    def __init__(self, settings: AzureSettings) -> None:
        self.settings = settings
        self._client: MLClient | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Workspace({self.settings.workspace})"

    @property
    def name(self) -> str:
        """What people call it."""
        return f"workspace {self.settings.workspace}"

    @property
    def address(self) -> str:
        """Its resource id as a URI."""
        mine = self.settings
        group = f"azureml://subscriptions/{mine.subscription}/resourceGroups/{mine.resource_group}"
        return f"{group}/workspaces/{mine.workspace}"

    @cached_property
    def identity(self) -> Identity:
        """Who insitu is here."""
        return azure_identity(self.settings)

    def ask(
        self, call: Callable[[MLClient], T], *, refused: type[InsituError] = AccessRefused, next_action: str = ""
    ) -> T:
        """Return what *call* does with the client; a token that is no longer taken is asked for anew, once.

        Raises:
            BackendUnavailable: No answer, also after some retries, or one that makes no sense.
            AccessRefused: The identity or a right.
            InsituError: Of class *refused*: the workspace does not do this.
        """
        with self._in_our_words(refused, next_action):
            try:
                return call(self._connected())
            except ClientAuthenticationError as exc:
                if exc.status_code != 401:
                    raise
            self.forget()
            return call(self._connected())

    def create(self, call: Callable[[MLClient], T], *, refused: type[InsituError], next_action: str = "") -> T:
        """As `ask`, for what uploads files: *call* names them anew, for one may be there whose answer was lost."""

        def attempt(client: MLClient) -> T | None:
            with redirect_stderr(StringIO()):  # the progress bar of the library
                try:
                    return call(client)
                except ResourceExistsError:
                    return None

        for _ in range(_UPLOADS):
            if (made := self.ask(attempt, refused=refused, next_action=next_action)) is not None:
                return made
        raise BackendUnavailable(f"{self.name} loses the answers to uploads", next_action="start again")

    def find(self, call: Callable[[MLClient], T], *, refused: type[InsituError] = AccessRefused) -> T | None:
        """Return what *call* finds, None when the workspace has no such thing; raise as `ask`."""

        def look(client: MLClient) -> T | None:
            try:
                return call(client)
            except ResourceNotFoundError as exc:
                if _is_of_the_place(exc):
                    raise
                return None

        return self.ask(look, refused=refused)

    def forget(self) -> None:
        """Drop the client and its tokens."""
        with self._lock:
            self._client = None
        self.identity.forget()

    def checks(self, training: AzureMlTraining | None) -> Sequence[Check]:
        """Return whether the workspace answers and has what jobs need: target and environment. Never raises."""
        try:
            found = self.ask(lambda client: client.workspaces.get(self.settings.workspace))
        except InsituError as error:
            next_action = "mend [azure] of the site, or make it: `insitu provision`"
            return [_failed("workspace", error, f"{self.name} answers", next_action)]
        checks = [Check("workspace", True, f"{found.name} in {found.location}", f"{self.name} answers")]
        return checks + ([self._target_check(training), self._environment_check(training)] if training else [])

    def _target_check(self, training: AzureMlTraining) -> Check:
        name, wanted = "compute target", f"{training.target}, attached and usable"
        next_action = "attach it: `insitu provision`"
        try:
            target = self.find(lambda client: client.compute.get(training.target))
        except InsituError as error:
            return _failed(name, error, wanted)
        if target is None:
            return Check(name, False, f"no target {training.target}", wanted, next_action)
        state = str(getattr(target.provisioning_state, "value", target.provisioning_state))
        if state != "Succeeded":
            return Check(name, False, f"{training.target} is {state}", wanted, next_action)
        of_the_other_kind = {"kubernetes": "virtualmachine", "attached-vm": "kubernetes"}[training.kind]
        if str(target.type).lower() == of_the_other_kind:
            next_action = "mend kind or target of [training]"
            return Check(name, False, f"{training.target} is of kind {target.type}", wanted, next_action)
        return Check(name, True, f"{training.target} ({target.type})", wanted)

    def _environment_check(self, training: AzureMlTraining) -> Check:
        name, wanted = "environment", f"{training.environment} in {self.name}"
        bare, _, version = training.environment.partition(":")
        label = None if version else "latest"
        try:
            found = self.find(lambda client: client.environments.get(bare, version=version or None, label=label))
        except InsituError as error:
            return _failed(name, error, wanted)
        if found is None:
            return Check(name, False, f"no environment {training.environment}", wanted, "`insitu provision` makes it")
        return Check(name, True, f"{found.name}:{found.version}", wanted)

    def _connected(self) -> MLClient:
        """Return the client of this process; its import takes seconds."""
        with self._lock:
            if self._client is None:
                from azure.ai.ml import MLClient

                logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # it warns with addresses
                mine = self.settings
                self._client = MLClient(
                    self.identity,
                    mine.subscription,
                    mine.resource_group,
                    mine.workspace,
                    cloud=mine.cloud,
                    show_progress=True,  # without it the library waits for ever for an upload that failed
                    enable_telemetry=False,
                    **OPTIONS,
                )
            return self._client

    @contextmanager
    def _in_our_words(self, refused: type[InsituError], next_action: str) -> Iterator[None]:
        from azure.ai.ml.exceptions import MlException

        with translated(self.name, refused, next_action or None):
            try:
                yield
            except MlException as exc:
                if inner := _answer_within(exc):
                    raise inner from None
                raise refused(
                    f"{self.name} cannot be asked for this: Microsoft's library refuses",
                    found=type(exc).__name__,
                    next_action="see whether the names under [azure], [training] and [models] of the site are right",
                ) from None
            except (AzureError, InsituError):
                raise
            except Exception as exc:  # noqa: BLE001 - the library raises anything, and its text may quote a signature
                raise BackendUnavailable(
                    f"{self.name} does not answer as it should", found=type(exc).__name__, next_action="start again"
                ) from None


@contextmanager
def without_git() -> Iterator[None]:
    """Keep the SDK from telling remote, branch and commit of the folder that it is called in."""
    before = os.environ.get("GIT_DIR")
    os.environ["GIT_DIR"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["GIT_DIR"]
        else:
            os.environ["GIT_DIR"] = before


def open_workspace(settings: AzureSettings) -> Workspace:
    """Return the workspace: the one of this process, for its client is costly."""
    return _open_workspace(os.getpid(), settings)


@cache
def _open_workspace(_process: int, settings: AzureSettings) -> Workspace:
    return Workspace(settings)


def _failed(name: str, error: InsituError, wanted: str, next_action: str = "") -> Check:
    found = ": ".join(filter(None, [error.what, error.found]))
    return Check(name, False, found, wanted, error.next_action or next_action)


def _is_of_the_place(exc: HttpResponseError) -> bool:
    """Tell whether it is the workspace, its group or its subscription that is not there."""
    code = str(getattr(exc.error, "code", "") or "")
    text = str(getattr(exc.error, "message", "") or "")
    return code in ("ResourceGroupNotFound", "SubscriptionNotFound") or (
        code == "ResourceNotFound" and re.search(r"workspaces/[^/]+'", text) is not None
    )


def _answer_within(exc: BaseException) -> AzureError | None:
    """Return the answer or the silence that one of the ML library's exceptions wraps."""
    from azure.ai.ml.exceptions import MlException

    seen: Any = exc
    while seen is not None:
        if isinstance(seen, AzureError) and not isinstance(seen, MlException):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
