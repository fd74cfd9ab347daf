"""How Envoy calls the endpoint picker: the gRPC service of external processing, and the wait for one that is away."""

from typing import Final

from envoy_config import names
from envoy_config.fields import Json, duration

# Chance chooses each pause between 0 and the longest allowed so far, so all together take 4.7 s on average.
_RETRIES: Final = 38
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 0.25


def picker_service(*, waits: bool) -> Json:
    """Return the service that decides requests.

    Args:
        waits: A request that finds no picker, or loses it before its first word, asks again for about five seconds,
            which is longer than a restart takes. Else it fails at once, which is what a route with another way wants.
    """
    service: Json = {
        "envoy_grpc": {"cluster_name": names.PICKER_CLUSTER},
        "initial_metadata": [{"key": names.PROFILE_METADATA, "value": names.OWN_PROFILE}],
    }
    if waits:
        service["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,reset,unavailable",
            "num_retries": _RETRIES,
            "retry_back_off": {
                "base_interval": duration(_FIRST_PAUSE_SECONDS),
                "max_interval": duration(_LONGEST_PAUSE_SECONDS),
            },
        }
    return service
