"""Ask model servers which models they serve, for pools that do not say so themselves."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import jiter

from endpoint_picker.datalayer.endpoint_page import PageFetcher, PageProblem, PageTarget, PageUnavailableError
from endpoint_picker.datalayer.endpoint_tasks import EndpointTasks

logger = logging.getLogger(__name__)

MAX_LIST_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 1024
"""Models taken from one list."""
MAX_MODEL_NAME: Final = 256
"""Longest model name taken over, in characters."""

_INTERVAL_SECONDS: Final = 30.0
_FIRST_RETRY_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 5.0


def read_model_list(body: bytes) -> tuple[str, ...] | None:
    """Return the model ids of an OpenAI model list, in its order without repetition; None if it is not one."""
    try:
        document = jiter.from_json(body)
    except ValueError:
        return None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return None
    ids = (entry.get("id") for entry in entries[:MAX_MODELS] if isinstance(entry, dict))
    return tuple(dict.fromkeys(name for name in ids if isinstance(name, str) and 0 < len(name) <= MAX_MODEL_NAME))


class ServedModels:
    """Polls ``/v1/models`` of every target and keeps the last list each gave, whatever fails afterwards.

    Args:
        rng: Source of jitter.
        changed: Called after a list has changed or an endpoint with a list is gone.
        interval_seconds: Between two questions to one endpoint; after failures it begins at a second and doubles.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        changed: Callable[[], None] = lambda: None,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        self._rng = rng
        self._changed = changed
        self._interval = interval_seconds
        self._lists: Mapping[str, tuple[str, ...]] = MappingProxyType({})
        self._fetcher = PageFetcher(max_bytes=MAX_LIST_BYTES)
        self._tasks = EndpointTasks(self._watch)

    @property
    def lists(self) -> Mapping[str, tuple[str, ...]]:
        """Model ids by endpoint address, without endpoints that never answered; an immutable snapshot."""
        return self._lists

    def set_targets(self, targets: Iterable[PageTarget]) -> None:
        """Replace the endpoints to ask; may be called at any time in the event loop's thread."""
        gone = self._tasks.set_targets(targets)
        if not gone.isdisjoint(self._lists):
            self._swap({address: models for address, models in self._lists.items() if address not in gone})

    async def run(self) -> None:
        """Poll until cancelled."""
        async with self._fetcher:
            await self._tasks.run()

    async def _watch(self, target: PageTarget) -> None:
        retry = min(_FIRST_RETRY_SECONDS, self._interval)
        pause = retry
        while True:
            models = await self._ask(target)
            if models is None:
                pause, retry = retry, min(self._interval, 2 * retry)
            else:
                pause, retry = self._interval, min(_FIRST_RETRY_SECONDS, self._interval)
                if self._lists.get(target.address) != models:
                    self._swap({**self._lists, target.address: models})
            await asyncio.sleep(pause * self._rng.uniform(0.9, 1.1))

    async def _ask(self, target: PageTarget) -> tuple[str, ...] | None:
        problem = PageProblem.UNRECOGNISED
        try:
            deadline = asyncio.get_running_loop().time() + _TIMEOUT_SECONDS
            models = read_model_list(await self._fetcher.fetch(target, target.paths[0], deadline=deadline))
        except PageUnavailableError as error:
            models, problem = None, error.problem
        except Exception:  # border of the endpoint's task: one endpoint must not end the polling of the others
            logger.exception("model list could not be read", extra={"endpoint": target.address})
            return None
        if models is None:
            logger.debug("no model list", extra={"endpoint": target.address, "problem": problem.value})
        return models

    def _swap(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        self._lists = MappingProxyType(dict(lists))
        self._changed()
