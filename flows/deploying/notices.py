"""Who is told how runs end: notification blocks and automations of the Prefect server, from the site's [notify].

A message holds the model, the state, the class of the error, what to do next and a link. No reason, no metric, no name
of a run, a blob or a column: messages leave the site, so nothing of what an error says but its class is taken. The
server sends them, so they come when the run's process is dead, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from flows.deploying.wanted import by_name
from flows.running.naming import site_tag
from insitu.options import DEFAULT_SITE
from insitu.provisioning import Finding, Part
from insitu.settings import SiteSettings
from insitu.settings.notify import Occasion
from insitu.wiring import notice_addresses

TAG = "insitu [notify]"
_EVENTS: Mapping[Occasion, tuple[str, ...]] = {
    "failed": ("Failed", "Crashed"),
    "awaiting-approval": ("Paused", "AwaitingApproval"),
    "not-promoted": ("NotPromoted",),
    "published": ("Completed",),
}
_IS_OURS = "(flow_run.state.message or '').startswith('E-')"  # a paused run has no message
_CODE = "{{ flow_run.state.message.split() | first }}"
_NEXT: Mapping[Occasion, str] = {
    "failed": f"{{% if {_IS_OURS} %}}insitu explain {_CODE}{{% else %}}see the log of the run{{% endif %}}",
    "awaiting-approval": "insitu approve MODEL --name NAME --reason REASON",
    "not-promoted": "insitu show MODEL",
    "published": "insitu score MODEL",
}
_LINK = "{{ (flow_run | ui_url) or 'flow run ' ~ flow_run.id }}"  # a server without UI has no address of it
SUBJECT = (
    f"{{{{ flow_run.parameters['model'] }}}}: {{{{ flow_run.state.name }}}}{{% if {_IS_OURS} %}} {_CODE}{{% endif %}}"
)
_CARD = {
    "type": "AdaptiveCard",
    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
    "version": "1.4",
    "body": [
        {"type": "TextBlock", "text": "{{subject}}", "weight": "Bolder", "size": "Medium", "wrap": True},
        {"type": "TextBlock", "text": "{{body}}", "wrap": True},
    ],
}
_BODIES: Mapping[str, dict[str, Any]] = {
    "slack": {"text": "*{{subject}}*\n{{body}}"},
    "teams": {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": _CARD}],
    },
    "webhook": {"subject": "{{subject}}", "text": "{{body}}"},
}
_FLOW = {"prefect.resource.role": "flow", "prefect.resource.name": "retrain"}
_CHANNELS = ("slack", "teams", "email", "webhook")


def notices(client: SyncPrefectClient, site: SiteSettings) -> Iterator[Part]:
    """Yield the blocks and automations of the site, and those that it has no more and the server still has.

    Raises:
        SettingsError: An address is not where [notify] says.
    """
    addresses = notice_addresses(site.notify)
    channels = {name: _Channel(client, site.name, name, addresses.get(name)) for name in _CHANNELS}
    told = site.notify.tell if addresses else []
    for occasion in _EVENTS:  # automations before the blocks that they no longer use
        notice = _Notice(client, site.name, occasion, [channels[name] for name in addresses], occasion in told)
        if not notice.wanted and notice.there():
            yield notice
    for channel in channels.values():
        if channel.address or channel.id():
            yield channel
    for occasion in told:
        yield _Notice(client, site.name, occasion, [channels[name] for name in addresses], wanted=True)


@dataclass(frozen=True)
class _Channel:
    """A notification block; its address is a secret of the server's, which encrypts it."""

    client: SyncPrefectClient
    site: str
    channel: str
    address: str | None

    @property
    def name(self) -> str:
        return f"notification block {self.block}"

    @property
    def place(self) -> str:
        return "the Prefect server"

    @property
    def block(self) -> str:
        return f"insitu-{self.site.replace('_', '-')}-{self.channel}"

    @property
    def kind(self) -> type[SlackWebhook | CustomWebhookNotificationBlock]:
        # Prefect has no block for SMTP; its Slack block gives what is no address of Slack's to Apprise, which knows it.
        return SlackWebhook if self.channel == "email" else CustomWebhookNotificationBlock

    def id(self) -> UUID | None:
        try:
            return self.client.read_block_document_by_name(self.block, self.kind.get_block_type_slug()).id
        except ObjectNotFound:
            return None

    def look(self) -> Finding:
        if self.id() is None:
            return Finding("not there", "make it" if self.address else "")
        if self.address is None:
            return Finding("there, and [notify] does not name it", "remove it")
        same = _said(self.kind.load(self.block)) == _said(self._wanted())
        return Finding("as [notify] says") if same else Finding("there, but not as [notify] says", "change it")

    def make(self) -> None:
        if self.address is not None:
            self._wanted().save(self.block, overwrite=True)
        elif there := self.id():
            self.client.delete_block_document(there)

    def _wanted(self) -> NotificationBlock:
        address = self.address or ""
        if self.channel == "email":
            return SlackWebhook(url=SecretStr(address))
        body, secrets = _BODIES[self.channel], {"address": address}
        given = {"name": self.block, "url": "{{address}}", "json_data": body, "secrets": secrets}
        return CustomWebhookNotificationBlock.model_validate(given)


def _said(block: Any) -> tuple[Any, ...]:
    """Return what a block sends where."""
    if isinstance(block, SlackWebhook):
        return (block.url.get_secret_value(),)
    return block.url, block.json_data, block.secrets.get_secret_value()


@dataclass(frozen=True)
class _Notice:
    """An automation that tells every channel of one occasion."""

    client: SyncPrefectClient
    site: str
    occasion: Occasion
    channels: list[_Channel]
    wanted: bool

    @property
    def name(self) -> str:
        return f"automation {self._named}"

    @property
    def place(self) -> str:
        return "the Prefect server"

    @property
    def _named(self) -> str:
        return f"insitu-{self.site}-{self.occasion}"

    def there(self) -> list[Any]:
        return [one for one in self.client.read_automations_by_name(self._named) if TAG in one.tags]

    def look(self) -> Finding:
        there = self.there()
        if not self.wanted:
            return Finding("there, and [notify] does not tell of it", "remove it") if there else Finding("not there")
        if not there:
            return Finding("not there", "make it")
        same = len(there) == 1 and by_name(there) == by_name([self._core()])
        return Finding("as [notify] says") if same else Finding("there, but not as [notify] says", "make it anew")

    def make(self) -> None:
        for one in self.there():
            self.client.delete_automation(one.id)
        if self.wanted:
            self.client.create_automation(self._core())

    def _core(self) -> AutomationCore:
        site = "" if self.site == DEFAULT_SITE else f" --site {self.site}"
        model = f"{{{{ flow_run.parameters['model'] }}}}{site}"
        body = f"next: {_NEXT[self.occasion].replace('MODEL', model)}\n\n{_LINK}"  # Teams wants two for a new line
        none = UUID(int=0)  # a plan, before there is a block
        return AutomationCore(
            name=self._named,
            description=f"[notify] of deployments/sites/{self.site}.toml: `insitu deploy flows` makes it",
            tags=[TAG],
            trigger=EventTrigger(
                expect={f"prefect.flow-run.{state}" for state in _EVENTS[self.occasion]},
                match=cast("Any", {"prefect.resource.id": "prefect.flow-run.*"}),
                match_related=cast("Any", [_FLOW, {"prefect.resource.id": f"prefect.tag.{site_tag(self.site)}"}]),
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                SendNotification(block_document_id=one.id() or none, subject=SUBJECT, body=body)
                for one in self.channels
            ],
        )
