"""The engine in real time: each step takes as long as it says, and its tokens go to those who wait for them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from igw.simulator.engine import Engine, StepResult
from igw.simulator.sequence import SequenceRequest, SequenceState
from igw.simulator.statistics import ServerStatistics

logger = logging.getLogger(__name__)

# Below this an event loop cannot wait precisely: steps that end within it are finished together.
_GRAIN_SECONDS = 0.0005
# So many at most, lest a large time scale starves the connections.
_STEPS_AT_ONCE = 64


class EngineStoppedError(Exception):
    """The engine ended before the generation did."""


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """One sequence of a generation.

    Attributes:
        prompt_tokens: At least 1.
        output_tokens: Tokens to emit.
        block_hashes: As in `SequenceRequest`.
        adapter: LoRA adapter.
        priority: Lower is sooner.
        finish_reason: Counted when it completes.
    """

    prompt_tokens: int
    output_tokens: int
    block_hashes: Sequence[int] = ()
    adapter: str | None = None
    priority: int = 0
    finish_reason: str = "length"


@dataclass(slots=True, eq=False)
class _Choice:
    """Where one sequence of a generation stands in real time."""

    index: int
    generation: "Generation"
    finish_reason: str
    submitted_at: float
    last_token_at: float = 0.0


class Generation:
    """Sequences that answer one HTTP request; made by `RealTimeEngine.open`, read by one task.

    Attributes:
        cached_tokens: Prompt tokens found in the prefix cache, by choice, as the choices complete.
        done: Whether all of its sequences are complete.
    """

    def __init__(self, close: Callable[["Generation"], None], sequences: int) -> None:
        self.cached_tokens: dict[int, int] = {}
        self._close = close
        self._left = sequences
        self._fresh: dict[int, int] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._failed = False

    @property
    def done(self) -> bool:
        """Whether all of its sequences are complete and their tokens taken."""
        return not self._left and not self._fresh

    async def tokens(self) -> Mapping[int, int]:
        """Wait for tokens and return how many new ones each choice has; empty for choices without output when done.

        Raises:
            EngineStoppedError: No more will come.
        """
        while not self._fresh and self._left:
            if self._failed:
                raise EngineStoppedError
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        fresh, self._fresh = self._fresh, {}
        return fresh

    def close(self) -> None:
        """Abort what is not complete; harmless afterwards."""
        if self._left:
            self._close(self)

    def put(self, choice: int) -> None:
        """Add one token of *choice*; called by the engine."""
        self._fresh[choice] = self._fresh.get(choice, 0) + 1

    def complete(self, choice: int, state: SequenceState) -> None:
        """Count *choice* as complete; called by the engine."""
        self._left -= 1
        self.cached_tokens[choice] = state.cached_tokens or 0

    def fail(self) -> None:
        """End without completing; called by the engine."""
        self._failed = True
        self.wake()

    def wake(self) -> None:
        """Let the reader look; called by the engine after each step."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RealTimeEngine:
    """Drives an `Engine` by timers of the running event loop; idle, it costs nothing.

    Attributes:
        engine: The engine; read it, but submit and abort here.
        statistics: What is counted on the way.
    """

    def __init__(self, engine: Engine, statistics: ServerStatistics, *, time_scale: float = 1.0) -> None:
        self.engine = engine
        self.statistics = statistics
        self._time_scale = time_scale
        self._choices: dict[int, _Choice] = {}
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._step_ends_at = 0.0
        self._stopped = False

    def open(self, requests: Sequence[ChoiceRequest]) -> Generation:
        """Submit all sequences of one HTTP request, or none of them.

        Raises:
            QueueFullError: The waiting queue is at its bound.
            SequenceTooLongError: One can never fit.
            EngineStoppedError: The engine is stopped.
        """
        if self._stopped:
            raise EngineStoppedError
        generation = Generation(self._abort, len(requests))
        now = asyncio.get_running_loop().time()
        try:
            for index, request in enumerate(requests):
                self._submit(request, _Choice(index, generation, request.finish_reason, now))
        except Exception:
            self._abort(generation)
            raise
        if not self.engine.stepping:
            self._start_step(now)
        return generation

    def stop(self) -> None:
        """Abort everything; generations that are being read fail."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        generations = {id(choice.generation): choice.generation for choice in self._choices.values()}
        for generation in generations.values():
            self._abort(generation)
            generation.fail()

    def _submit(self, request: ChoiceRequest, choice: _Choice) -> None:
        sequence_id = self._next_id
        self._next_id += 1
        self.engine.submit(
            SequenceRequest(
                sequence_id=sequence_id,
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                block_hashes=request.block_hashes,
                adapter=request.adapter,
                priority=request.priority,
            )
        )
        self._choices[sequence_id] = choice

    def _abort(self, generation: Generation) -> None:
        mine = [sequence_id for sequence_id, c in self._choices.items() if c.generation is generation]
        for sequence_id in mine:
            del self._choices[sequence_id]
            if self.engine.abort(sequence_id):
                self.statistics.finished["abort"] += 1
        if mine:
            self._see_adapters()

    def _start_step(self, at: float) -> None:
        duration = self.engine.start_step()
        self._see_adapters()
        if duration is None:
            self._timer = None
            return
        self._step_ends_at = at + duration / self._time_scale
        self._timer = asyncio.get_running_loop().call_at(self._step_ends_at, self._on_step_end)

    def _on_step_end(self) -> None:
        """Finish the step that ended, and with it all that end within the grain of the clock; then wake the readers."""
        now = asyncio.get_running_loop().time()
        touched: dict[int, Generation] = {}
        try:
            for _ in range(_STEPS_AT_ONCE):
                if self._timer is None or self._step_ends_at > now + _GRAIN_SECONDS:
                    break
                self._timer.cancel()
                self._deliver(self.engine.finish_step(), touched)
                # A loop that fell far behind does not try to catch up: that would be a burst nobody simulated.
                self._start_step(max(self._step_ends_at, now - 0.05))
        except Exception:
            logger.exception("the simulated engine failed")
            self.stop()
        for generation in touched.values():
            generation.wake()

    def _deliver(self, result: StepResult, touched: dict[int, Generation]) -> None:
        at = self._step_ends_at
        statistics = self.statistics
        for sequence_id in result.emitted:
            choice = self._choices[sequence_id]
            generation = choice.generation
            generation.put(choice.index)
            touched[id(generation)] = generation
            if choice.last_token_at:
                statistics.between_tokens.observe(at - choice.last_token_at)
            else:
                statistics.first_token.observe(at - choice.submitted_at)
            choice.last_token_at = at
        for state in result.finished:
            choice = self._choices.pop(state.request.sequence_id)
            generation = choice.generation
            generation.complete(choice.index, state)
            touched[id(generation)] = generation
            statistics.request.observe(at - choice.submitted_at)
            statistics.prompt_tokens.observe(state.request.prompt_tokens)
            statistics.output_tokens.observe(state.emitted)
            statistics.finished[choice.finish_reason] += 1

    def _see_adapters(self) -> None:
        if self.engine.adapters.resident or self.statistics.adapter_series:
            now = time.time()
            self.statistics.see_adapters(self.engine.running_adapters, self.engine.waiting_adapters, now)
