"""Who is told what about an alert, and when.

What a channel has not been told is news; it waits for others that come with it, and is
told once. All waiting is by the clock on the wall. Each channel is told, reminded and
escalated to by the rules that name it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .alerts import Alert, Member, Notice, Reason, compatible_labels
from .maintenance import MaintenanceWindow
from .points import Labels
from .rules import Rule


@dataclass(slots=True)
class NoticeDecider:
    """Decides about one alert after the other.

    now: epoch seconds.
    windows: the maintenance windows that are active.
    is_recovering: whether a member's last points have recovered.
    inhibitors: labels and alert of each P1 that is told: P3s with compatible labels are
        not told meanwhile.
    notices: those that are due.
    due: when there is something to decide later, epoch seconds.
    """

    now: float
    rules: Mapping[str, Rule]
    windows: Mapping[str, MaintenanceWindow]
    is_recovering: Callable[[Member], bool]
    inhibitors: list[tuple[Labels, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    due: list[float] = field(default_factory=list)

    def add_inhibitors(self, alerts: Iterable[Alert]) -> None:
        """Let the alerts' P1s inhibit P3s, unless maintenance hides them."""
        for alert in alerts:
            for member in alert.active_members:
                if member.priority == "P1" and (member.told or not self._covering(member)):
                    self.inhibitors.append((member.labels, alert.id))

    def decide(self, alert: Alert) -> None:
        """Add the alert's notices, and mark its channels as told."""
        active = alert.active_members
        if not active:
            self._resolve(alert)
            return
        unmuted = [m for m in active if not self._covering(m)]
        if (unmuted and alert.told) or not all(map(self.is_recovering, unmuted)):
            alert.suppressed_by = []
        else:
            covering = [self._covering(member) for member in active]
            alert.suppressed_by = sorted({*alert.suppressed_by}.union(*covering))
        inhibited_by = [self._inhibitor(member) for member in unmuted]
        audible = [m for m, by in zip(unmuted, inhibited_by, strict=True) if by is None]
        alert.inhibited_by = inhibited_by[0] if unmuted and not audible else None
        unacknowledged = [m for m in audible if not m.is_acknowledged]
        lasting = [m for m in unacknowledged if not self.is_recovering(m)]
        for member in lasting:
            if self._is_due(member.news + self.rules[member.rule].first_wait):
                alert.announced.setdefault(member.rule, self.now)
        channels = [c for m in lasting for c in self.rules[m.rule].channels]
        for channel in dict.fromkeys([*alert.told, *channels]):
            self._tell_news(alert, channel, lasting)
        self._escalate(alert, unacknowledged, lasting)
        for channel in alert.told:
            self._remind(alert, channel, unacknowledged, lasting)

    def _covering(self, member: Member) -> list[str]:
        return [
            name
            for name, window in self.windows.items()
            if window.match.covers(member.metric, member.labels)
        ]

    def _inhibitor(self, member: Member) -> str | None:
        """The alert because of which nobody is told of a member."""
        if member.priority != "P3":
            return None
        return next(
            (
                alert
                for labels, alert in self.inhibitors
                if compatible_labels(member.labels, labels)
            ),
            None,
        )

    def _routed(self, members: list[Member], channel: str) -> list[Member]:
        return [m for m in members if channel in self.rules[m.rule].channels]

    def _is_due(self, time: float) -> bool:
        if time > self.now:
            self.due.append(time)
        return time <= self.now

    def _tell(
        self,
        alert: Alert,
        reason: Reason,
        channel: str,
        news: Sequence[Member] = (),
        lasting: Sequence[Member] = (),
    ) -> None:
        self.notices.append(alert.notice(reason, channel, self.now, [*news], [*lasting]))

    def _resolve(self, alert: Alert) -> None:
        for channel, told in alert.told.items():
            if told.is_open:
                self._tell(alert, "resolved", channel)
        alert.announced, alert.escalated = {}, {}
        for member in alert.members:
            member.told, member.is_acknowledged = [], False

    def _tell_news(self, alert: Alert, channel: str, lasting: list[Member]) -> None:
        """Tell a channel what is new to it, after waiting for what comes with it."""
        told = alert.told.get(channel)
        routed = self._routed(lasting, channel)
        reason: Reason
        if told is None:
            reason, news = "opened", routed
        elif not told.is_open:
            reason, news = "reopened", lasting
        else:
            worse = [m for m in lasting if m.priority < told.priority]
            unknown = [m for m in routed if channel not in m.told]
            reason = "worsened" if worse else "updated"
            news = worse + [m for m in unknown if m not in worse]
        if not news:
            return
        due = min(m.news + self.rules[m.rule].first_wait for m in news)
        known_rules = {m.rule for m in alert.members if channel in m.told}
        if told and reason == "updated" and known_rules.issuperset(m.rule for m in news):
            interval = min(self.rules[m.rule].group_interval for m in news)
            due = max(due, told.last + 60 * interval)
        if self._is_due(due):
            self._tell(alert, reason, channel, news, lasting)

    def _escalate(self, alert: Alert, unacknowledged: list[Member], lasting: list[Member]) -> None:
        channels: list[str] = []
        for name in dict.fromkeys(member.rule for member in unacknowledged):
            rule, since = self.rules[name], alert.announced.get(name)
            if not rule.escalation or since is None or name in alert.escalated:
                continue
            if self._is_due(since + 60 * rule.escalate_after):
                alert.escalated[name] = self.now
                channels += rule.escalation
        for channel in dict.fromkeys(channels):
            self._tell(alert, "escalated", channel, unacknowledged, lasting)

    def _remind(
        self, alert: Alert, channel: str, unacknowledged: list[Member], lasting: list[Member]
    ) -> None:
        """Remind a channel of what it was told, as often as its own rules say.

        News that is waiting is told with it.
        """
        told = alert.told[channel]
        waits = [
            rule.renotify_after
            for rule in (self.rules[m.rule] for m in unacknowledged if channel in m.told)
            if channel in rule.channels and rule.renotify_after is not None
        ]
        if told.is_open and waits and self._is_due(told.last + 60 * min(waits)):
            news = [m for m in self._routed(lasting, channel) if channel not in m.told]
            self._tell(alert, "updated" if news else "reminder", channel, news, lasting)
