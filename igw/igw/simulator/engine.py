"""Continuous batching, one step at a time: a model of vLLM's V1 scheduler without clock and without I/O.

A step is started (what it computes is decided, and with that its duration) and finished (its tokens come out). Between
the two a caller lets time pass, real or virtual; sequences may be submitted and aborted at any moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from igw.simulator.admission_errors import QueueFullError, SequenceTooLongError
from igw.simulator.engine_settings import EngineSettings
from igw.simulator.kv_cache import KvCache
from igw.simulator.lora import AdapterSlots
from igw.simulator.sequence import SequenceRequest, SequenceState
from igw.simulator.timing import StepLoad, StepTiming
from igw.simulator.waiting import WaitingQueue


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step brought.

    Attributes:
        duration_seconds: From its start to its end.
        load: What it computed.
        emitted: Sequences that put out exactly one token, in batch order.
        finished: Sequences that are complete, after their last token; no longer live.
    """

    duration_seconds: float
    load: StepLoad
    emitted: tuple[int, ...]
    finished: tuple[SequenceState, ...]


@dataclass(slots=True)
class EngineCounters:
    """Totals since the start of an engine; written by it only.

    Attributes:
        steps: Steps finished.
        prompt_tokens: Prompt tokens of admitted sequences, each sequence counted once.
        output_tokens: Tokens emitted.
        prefix_queries: Tokens looked up in the prefix cache, at first admission.
        prefix_hits: Of them, tokens found.
        preemptions: Sequences whose KV was taken away.
        lora_loads: Adapters brought in.
    """

    steps: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    lora_loads: int = 0


class Engine:
    """One engine: running batch, waiting queue, KV cache and adapter slots.

    The rules, all of vLLM's V1 scheduler: running sequences first, then the queue while token budget, sequences and
    blocks last; prefills in chunks; when no block is left the last (or least urgent) sequence loses its KV, returns to
    the front of the queue, recomputes, and nothing is admitted in that step; at least the last token of a prompt is
    computed even when all of it is cached; a sequence whose adapter finds no slot is passed over.

    Attributes:
        settings: Sizes and rules.
        counters: Totals since the start.
        kv: The KV cache.
        adapters: The adapter slots.
    """

    def __init__(self, settings: EngineSettings, timing: StepTiming) -> None:
        self.settings = settings
        self.counters = EngineCounters()
        self.kv = KvCache(num_blocks=settings.num_blocks, block_size=settings.block_size)
        self.adapters = AdapterSlots(slots=settings.max_loras, load_seconds=settings.lora_load_seconds)
        self._timing = timing
        self._states: dict[int, SequenceState] = {}
        self._running: list[SequenceState] = []
        self._waiting = WaitingQueue()
        self._plan: dict[SequenceState, int] | None = None
        self._load = StepLoad(0, 0, 0, 0, 0, 0.0)
        self._duration_seconds = 0.0
        self._next_order = 0

    @property
    def running(self) -> int:
        """Sequences in the running batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences in the waiting queue, preempted ones included."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether a step would compute something."""
        return bool(self._running) or bool(self._waiting)

    @property
    def stepping(self) -> bool:
        """Whether a step has been started and not finished."""
        return self._plan is not None

    @property
    def waiting_tokens(self) -> int:
        """Tokens that waiting sequences have to compute, their cached prefixes not deducted."""
        return sum(state.tokens for state in self._waiting)

    @property
    def sequences(self) -> Mapping[int, SequenceState]:
        """Live sequences by id, to be read only."""
        return self._states

    @property
    def running_adapters(self) -> tuple[str, ...]:
        """Distinct adapters of the running batch."""
        return _adapters(self._running)

    @property
    def waiting_adapters(self) -> tuple[str, ...]:
        """Distinct adapters of the waiting queue."""
        return _adapters(list(self._waiting))

    def submit(self, request: SequenceRequest) -> None:
        """Put a sequence into the waiting queue.

        Raises:
            QueueFullError: The queue is at its bound.
            SequenceTooLongError: It can never fit into the KV cache.
            ValueError: Its id is live already, or it names an adapter and there are no slots.
        """
        limit = self.settings.max_queued_requests
        if limit is not None and len(self._waiting) >= limit:
            raise QueueFullError(limit)
        tokens = request.prompt_tokens + request.output_tokens
        if self.kv.blocks_for(tokens) > self.kv.usable_blocks:
            raise SequenceTooLongError(tokens, self.settings.capacity_tokens)
        if request.sequence_id in self._states:
            msg = f"sequence {request.sequence_id} is live already"
            raise ValueError(msg)
        if request.adapter is not None and not self.adapters.slots:
            msg = f"no slot for adapter {request.adapter!r}: LoRA is off"
            raise ValueError(msg)
        priority = request.priority if self.settings.priority_scheduling else 0
        state = SequenceState(request, self._next_order, priority, request.prompt_tokens)
        self._next_order += 1
        self._states[request.sequence_id] = state
        self._waiting.push(state)

    def abort(self, sequence_id: int) -> bool:
        """End a sequence and free its blocks; returns False where it is not live any more."""
        state = self._states.pop(sequence_id, None)
        if state is None:
            return False
        state.live = False
        if state in self._running:
            self._running.remove(state)
        else:
            self._waiting.discard(state)
        self._free(state)
        return True

    def step(self) -> StepResult | None:
        """Start and finish one step; None where there is nothing to do."""
        return None if self.start_step() is None else self.finish_step()

    def start_step(self) -> float | None:
        """Decide what the next step computes and return its duration in seconds; None where there is nothing to do.

        Raises:
            RuntimeError: The step before is not finished.
        """
        if self._plan is not None:
            msg = "the step before is not finished"
            raise RuntimeError(msg)
        plan: dict[SequenceState, int] = {}
        budget, preempted = self._schedule_running(plan)
        while preempted and not plan:
            # only places were lost: the original takes an empty step then, which would look idle here
            budget, preempted = self._schedule_running(plan)
        load_seconds = 0.0 if preempted else self._schedule_waiting(plan, budget)
        if not plan:
            return None
        self._plan = plan
        self._load = self._commit(plan)
        self._duration_seconds = self._timing.seconds(self._load) + load_seconds
        return self._duration_seconds

    def finish_step(self) -> StepResult:
        """Emit the tokens of the step that was started.

        Raises:
            RuntimeError: None was started.
        """
        if self._plan is None:
            msg = "no step was started"
            raise RuntimeError(msg)
        emitted: list[int] = []
        finished: list[SequenceState] = []
        for state in self._plan:
            if state.computed < state.tokens or not state.live:
                continue
            request = state.request
            if state.emitted < request.output_tokens:
                state.emitted += 1
                state.tokens += 1
                emitted.append(request.sequence_id)
            if state.emitted >= request.output_tokens:
                finished.append(state)
        self._plan = None
        if finished:
            self._retire(finished)
        self.counters.steps += 1
        self.counters.output_tokens += len(emitted)
        return StepResult(self._duration_seconds, self._load, tuple(emitted), tuple(finished))

    def _schedule_running(self, plan: dict[SequenceState, int]) -> tuple[int, bool]:
        """Plan the running batch; returns the budget left and whether anything was preempted."""
        budget = self.settings.max_num_batched_tokens
        block_size = self.kv.block_size
        running = self._running
        preempted = False
        index = 0
        while index < len(running) and budget > 0:
            state = running[index]
            new_tokens = min(state.tokens - state.computed, budget)
            missing = -(-(state.computed + new_tokens) // block_size) - len(state.blocks)
            if missing > 0:
                blocks = self.kv.acquire((), missing)
                while blocks is None:
                    preempted = True
                    victim = self._preempt()
                    budget += plan.pop(victim, 0)
                    if victim is state:
                        return budget, preempted
                    blocks = self.kv.acquire((), missing)
                state.blocks += blocks
                index = running.index(state) if preempted else index
            plan[state] = new_tokens
            budget -= new_tokens
            index += 1
        return budget, preempted

    def _schedule_waiting(self, plan: dict[SequenceState, int], budget: int) -> float:
        """Admit from the queue while budget, sequences, blocks and adapter slots last; returns adapter load seconds."""
        passed_over: list[SequenceState] = []
        active = set(self.running_adapters) if self.adapters.slots else set()
        load_seconds = 0.0
        while budget > 0 and len(self._running) < self.settings.max_num_seqs:
            state = self._waiting.first()
            if state is None:
                break
            adapter = state.request.adapter
            if adapter is not None and not self.adapters.fits(adapter, active):
                passed_over.append(self._waiting.pop())
                continue
            new_tokens = self._admit(state, budget)
            if new_tokens is None:
                break
            self._waiting.pop()
            self._running.append(state)
            plan[state] = new_tokens
            budget -= new_tokens
            if adapter is not None:
                seconds = self.adapters.use(adapter, active)
                self.counters.lora_loads += seconds > 0
                load_seconds += seconds
                active.add(adapter)
        for state in passed_over:
            self._waiting.push(state)
        return load_seconds

    def _admit(self, state: SequenceState, budget: int) -> int | None:
        """Give a waiting sequence its first blocks; returns the tokens it computes now, None where blocks are short."""
        kv = self.kv
        cached: list[int] = []
        if self.settings.prefix_caching:
            cached = kv.match(state.request.block_hashes, (state.tokens - 1) // kv.block_size)
        cached_tokens = len(cached) * kv.block_size
        new_tokens = min(state.tokens - cached_tokens, budget)
        blocks = kv.acquire(cached, kv.blocks_for(cached_tokens + new_tokens) - len(cached))
        if blocks is None:
            return None
        state.blocks = blocks
        state.registered = len(cached)
        state.computed = cached_tokens
        if state.cached_tokens is None:
            state.cached_tokens = cached_tokens
            self.counters.prompt_tokens += state.request.prompt_tokens
            self.counters.prefix_queries += state.request.prompt_tokens
            self.counters.prefix_hits += cached_tokens
        if self.settings.prefix_caching:
            self._register(state, cached_tokens + new_tokens)
        return new_tokens

    def _commit(self, plan: Mapping[SequenceState, int]) -> StepLoad:
        """Count the planned tokens as computed and sum up the load."""
        prefill_tokens = prefill_context = decodes = decode_context = 0
        block_size = self.kv.block_size
        caching = self.settings.prefix_caching
        for state, new_tokens in plan.items():
            before = state.computed
            computed = state.computed = before + new_tokens
            if new_tokens == 1 and state.emitted and computed == state.tokens:
                decodes += 1
                decode_context += computed
            else:
                prefill_tokens += new_tokens
                prefill_context += new_tokens * before + new_tokens * (new_tokens + 1) // 2
            if caching and computed // block_size > state.registered:
                self._register(state, computed)
        return StepLoad(prefill_tokens, prefill_context, decodes, decode_context, len(plan), self.kv.usage)

    def _register(self, state: SequenceState, computed: int) -> None:
        """Make the blocks that *computed* tokens fill findable."""
        hashes, blocks = state.request.block_hashes, state.blocks
        full = min(computed // self.kv.block_size, len(hashes))
        for index in range(state.registered, full):
            self.kv.register(blocks[index], hashes[index])
        state.registered = max(state.registered, full)

    def _preempt(self) -> SequenceState:
        """Take the KV of the last, or least urgent, running sequence and send it back to the queue."""
        victim = self._running[-1]
        if self.settings.priority_scheduling:
            victim = max(self._running, key=lambda state: (state.priority, state.order))
        self._running.remove(victim)
        self._free(victim)
        victim.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.push(victim)
        return victim

    def _retire(self, finished: list[SequenceState]) -> None:
        for state in finished:
            del self._states[state.request.sequence_id]
            state.live = False
            self._free(state)
        self._running = [state for state in self._running if state.live]

    def _free(self, state: SequenceState) -> None:
        self.kv.release(state.blocks)
        state.blocks = []
        state.registered = 0
        state.computed = 0


def _adapters(states: list[SequenceState]) -> tuple[str, ...]:
    """Distinct adapters of *states* in order."""
    return tuple(dict.fromkeys(s.request.adapter for s in states if s.request.adapter is not None))
