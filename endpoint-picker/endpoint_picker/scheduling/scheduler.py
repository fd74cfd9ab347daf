"""The scheduler: producers, then one of the named profiles, then the news of the pick."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.scheduling.interfaces import NO_FACTS, Producer
from endpoint_picker.scheduling.profile import Profile

DEFAULT_PROFILE = "default"
"""Name of the profile that serves pools which name none, where there are several."""


@dataclass(frozen=True, slots=True)
class SingleProfileHandler:
    """Says that there is one profile and that it serves every request; the only profile handler, so it has no parts.

    Source: ``single-profile-handler`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "single-profile-handler"


class Scheduler:
    """Runs exactly one profile per request.

    The single profile serves every request. Of several, a pool may name one; a pool that names none, or one that does
    not exist, is served by the profile called ``default``, so a mistyped name costs no request.

    Args:
        profiles: At least one; ValueError if there are none, two share a name, or there are several and none is
            called ``default``.
        producers: What works out facts before each decision, in order.
    """

    __slots__ = ("_default", "_producers", "_profiles")

    def __init__(self, profiles: Sequence[Profile], producers: Sequence[Producer] = ()) -> None:
        self._profiles = {profile.name: profile for profile in profiles}
        self._producers = tuple(producers)
        if len(self._profiles) != len(profiles):
            msg = "two scheduling profiles have the same name"
            raise ValueError(msg)
        default = profiles[0] if len(profiles) == 1 else self._profiles.get(DEFAULT_PROFILE)
        if default is None:
            msg = f"there must be one scheduling profile, or one called {DEFAULT_PROFILE!r}; got {list(self._profiles)}"
            raise ValueError(msg)
        self._default = default

    @property
    def profile_names(self) -> tuple[str, ...]:
        """Profiles a pool may name."""
        return tuple(self._profiles)

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], profile: str = ""
    ) -> SchedulingDecision:
        """Decide, and tell the producers that the first endpoint will serve the request.

        Raises:
            NoReadyEndpoints: No candidate is left.
        """
        facts = NO_FACTS
        for producer in self._producers:
            facts = producer.produce(request, endpoints, facts)
        decision = self._profiles.get(profile, self._default).schedule(request, endpoints, facts)
        if self._producers:
            first = decision.addresses[0]
            chosen = next(endpoint for endpoint in endpoints if endpoint.address == first)
            for producer in self._producers:
                producer.picked(request, chosen, facts)
        return decision

    def picked(self, request: InferenceRequest, endpoint: Endpoint) -> None:
        """Tell the producers that another endpoint than the first choice served the request."""
        for producer in self._producers:
            producer.picked(request, endpoint)
