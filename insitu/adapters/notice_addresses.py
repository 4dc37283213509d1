"""Addresses of those who are told how runs end: secrets, read where [notify] says they are."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.adapters.secrets import read_secret, require_form
from insitu.settings import NotifySettings

_MAIL, _WEB = ("mailto://", "mailtos://"), ("http://", "https://")


def addresses(notify: NotifySettings) -> Mapping[str, str]:
    """Return the address of each channel; raise `SettingsError` for one that is not there, or of another kind."""
    found = {name: read_secret(source) for name, source in notify.channels.items()}
    for name, source in notify.channels.items():
        kinds = _MAIL if name == "email" else _WEB
        require_form(found[name].startswith(kinds), source, f"an address that begins with {' or '.join(kinds)}")
    return found
