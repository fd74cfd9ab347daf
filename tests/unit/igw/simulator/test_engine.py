"""One step follows vLLM's V1 scheduler: running first, chunked prefill, FCFS, preemption, prefix cache, adapters."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from igw.simulator.admission_errors import QueueFullError, SequenceTooLongError
from igw.simulator.engine import Engine, StepResult
from igw.simulator.engine_settings import EngineSettings
from igw.simulator.sequence import SequenceRequest
from igw.simulator.timing import LinearTiming

TIMING = LinearTiming(1e-3, 1e-6, 0.0, 0.0, 0.0)


def engine(**changes: object) -> Engine:
    sizes = {"num_blocks": 65, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 16, **changes}
    return Engine(EngineSettings(**sizes), TIMING)


def sequence(number: int, prompt: int = 4, output: int = 3, **rest: object) -> SequenceRequest:
    return SequenceRequest(number, prompt, output, **rest)


def drain(machine: Engine, limit: int = 10_000) -> list[StepResult]:
    results: list[StepResult] = []
    while (result := machine.step()) is not None:
        results.append(result)
        assert len(results) < limit, "the engine does not come to an end"
    return results


def finished(results: list[StepResult]) -> list[int]:
    return [state.request.sequence_id for result in results for state in result.finished]


def test_an_idle_engine_has_no_step() -> None:
    assert engine().step() is None


def test_the_first_token_comes_out_of_the_step_that_ends_the_prefill() -> None:
    machine = engine()
    machine.submit(sequence(1, prompt=40, output=2))
    assert [result.emitted for result in drain(machine)] == [(), (), (1,), (1,)]


def test_a_prefill_is_cut_to_the_budget_that_decodes_leave() -> None:
    machine = engine()
    machine.submit(sequence(1, prompt=4, output=9))
    machine.step()
    machine.submit(sequence(2, prompt=40))
    result = machine.step()
    assert result is not None
    assert (result.load.decode_sequences, result.load.prefill_tokens) == (1, 15)


def test_no_more_than_max_num_seqs_run() -> None:
    machine = engine(max_num_seqs=2)
    for number in range(5):
        machine.submit(sequence(number, prompt=2))
    machine.step()
    assert (machine.running, machine.waiting) == (2, 3)


def test_first_come_first_served() -> None:
    machine = engine(max_num_seqs=1)
    for number in range(4):
        machine.submit(sequence(number, priority=-number))
    assert finished(drain(machine)) == [0, 1, 2, 3]


def test_priority_scheduling_takes_the_lowest_number_first() -> None:
    machine = engine(max_num_seqs=1, priority_scheduling=True)
    for number, priority in enumerate((0, 5, -5)):
        machine.submit(sequence(number, priority=priority))
    assert finished(drain(machine)) == [2, 0, 1]


def test_the_load_tells_prefill_from_decode() -> None:
    machine = engine()
    machine.submit(sequence(1, prompt=4, output=2))
    loads = [result.load for result in drain(machine)]
    assert (loads[0].prefill_tokens, loads[0].prefill_context, loads[0].decode_sequences) == (4, 10, 0)
    assert (loads[1].prefill_tokens, loads[1].decode_sequences, loads[1].decode_context) == (0, 1, 5)


def test_nothing_is_released_before_a_step_ends() -> None:
    machine = engine()
    machine.submit(sequence(1, prompt=4, output=1))
    assert machine.start_step() is not None
    assert (machine.running, machine.kv.used_blocks, machine.stepping) == (1, 1, True)
    machine.finish_step()
    assert (machine.running, machine.kv.used_blocks, machine.stepping) == (0, 0, False)


def test_steps_alternate() -> None:
    machine = engine()
    with pytest.raises(RuntimeError, match="no step was started"):
        machine.finish_step()
    machine.submit(sequence(1))
    machine.start_step()
    with pytest.raises(RuntimeError, match="not finished"):
        machine.start_step()


def test_a_sequence_without_output_ends_with_its_prefill() -> None:
    machine = engine()
    machine.submit(sequence(1, prompt=20, output=0))
    results = drain(machine)
    assert finished(results) == [1]
    assert machine.counters.output_tokens == 0


class TestPrefixCache:
    HASHES = (101, 102, 103, 104)

    def test_full_blocks_are_found_again(self) -> None:
        machine = engine()
        machine.submit(sequence(1, prompt=10, block_hashes=self.HASHES[:2]))
        drain(machine)
        machine.submit(sequence(2, prompt=10, block_hashes=self.HASHES[:2]))
        [state] = [state for result in drain(machine) for state in result.finished]
        assert state.cached_tokens == 8
        assert (machine.counters.prefix_queries, machine.counters.prefix_hits) == (20, 8)

    def test_at_least_the_last_token_is_computed(self) -> None:
        machine = engine()
        for number in (1, 2):
            machine.submit(sequence(number, prompt=8, block_hashes=self.HASHES[:2]))
            results = drain(machine)
        assert results[0].load.prefill_tokens == 4
        assert results[0].finished == ()

    def test_generated_blocks_are_found_by_the_next_turn(self) -> None:
        machine = engine()
        machine.submit(sequence(1, prompt=4, output=9, block_hashes=self.HASHES[:3]))
        drain(machine)
        machine.submit(sequence(2, prompt=16, block_hashes=self.HASHES))
        [state] = [state for result in drain(machine) for state in result.finished]
        assert state.cached_tokens == 12

    def test_content_after_a_difference_is_not_found(self) -> None:
        machine = engine()
        machine.submit(sequence(1, prompt=13, block_hashes=(1, 2, 3)))
        drain(machine)
        machine.submit(sequence(2, prompt=13, block_hashes=(1, 9, 3)))
        [state] = [state for result in drain(machine) for state in result.finished]
        assert state.cached_tokens == 4

    def test_it_can_be_off(self) -> None:
        machine = engine(prefix_caching=False)
        for number in (1, 2):
            machine.submit(sequence(number, prompt=10, block_hashes=self.HASHES[:2]))
            drain(machine)
        assert (machine.counters.prefix_hits, machine.kv.cached_blocks) == (0, 0)


class TestPreemption:
    def test_the_last_sequence_loses_its_blocks_and_recomputes(self) -> None:
        machine = engine(num_blocks=7)
        machine.submit(sequence(1, prompt=8, output=12))
        machine.submit(sequence(2, prompt=8, output=12))
        results = drain(machine)
        assert finished(results) == [1, 2]
        assert machine.counters.preemptions == 1
        [first, second] = [state for result in results for state in result.finished]
        assert (first.preemptions, second.preemptions) == (0, 1)
        assert (first.emitted, second.emitted) == (12, 12)
        # Both prompts, and the prompt and the output so far of the second one again.
        assert sum(result.load.prefill_tokens for result in results) > 16

    def test_nothing_is_admitted_in_a_step_with_a_preemption(self) -> None:
        machine = engine(num_blocks=7)
        machine.submit(sequence(1, prompt=8, output=12))
        machine.submit(sequence(2, prompt=8, output=12))
        while not machine.counters.preemptions:
            machine.submit(sequence(100 + machine.counters.steps, prompt=1, output=1))
            running = machine.running
            machine.start_step()
            if machine.counters.preemptions:
                assert machine.running == running - 1
            machine.finish_step()

    def test_it_returns_ahead_of_later_arrivals(self) -> None:
        machine = engine(num_blocks=7, max_num_seqs=2)
        for number in (1, 2, 3):
            machine.submit(sequence(number, prompt=8, output=12))
        assert finished(drain(machine)) == [1, 2, 3]

    def test_priority_decides_who_goes(self) -> None:
        machine = engine(num_blocks=7, priority_scheduling=True)
        machine.submit(sequence(1, prompt=8, output=12, priority=5))
        machine.submit(sequence(2, prompt=8, output=12, priority=0))
        assert finished(drain(machine)) == [2, 1]


class TestAdmission:
    def test_the_queue_is_bounded(self) -> None:
        machine = engine(max_queued_requests=2)
        machine.submit(sequence(1))
        machine.submit(sequence(2))
        with pytest.raises(QueueFullError) as caught:
            machine.submit(sequence(3))
        assert caught.value.limit == 2

    def test_what_can_never_fit_is_refused(self) -> None:
        machine = engine(num_blocks=3)
        with pytest.raises(SequenceTooLongError) as caught:
            machine.submit(sequence(1, prompt=8, output=1))
        assert (caught.value.tokens, caught.value.capacity) == (9, 8)

    def test_an_id_is_used_once(self) -> None:
        machine = engine()
        machine.submit(sequence(1))
        with pytest.raises(ValueError, match="live already"):
            machine.submit(sequence(1))

    def test_adapters_need_slots(self) -> None:
        with pytest.raises(ValueError, match="LoRA is off"):
            engine(max_loras=0).submit(sequence(1, adapter="a"))

    @pytest.mark.parametrize(
        "sizes",
        [
            pytest.param({"max_num_seqs": 0}, id="no-sequences"),
            pytest.param({"max_num_batched_tokens": 0}, id="no-budget"),
            pytest.param({"max_queued_requests": -1}, id="negative-queue"),
        ],
    )
    def test_senseless_sizes_are_refused(self, sizes: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="got"):
            EngineSettings(**sizes)


class TestAdapters:
    def test_a_step_that_brings_one_in_takes_longer(self) -> None:
        machine = engine(lora_load_seconds=2.0)
        machine.submit(sequence(1, output=2, adapter="a"))
        durations = [result.duration_seconds for result in drain(machine)]
        assert durations[0] == pytest.approx(2.001)
        assert durations[1] == pytest.approx(0.001)
        assert machine.counters.lora_loads == 1

    def test_a_sequence_without_a_slot_is_passed_over(self) -> None:
        machine = engine(max_loras=1)
        for number, adapter in enumerate(("a", "b", None)):
            machine.submit(sequence(number, adapter=adapter))
        machine.step()
        assert (machine.running_adapters, machine.waiting_adapters) == (("a",), ("b",))
        assert (machine.running, machine.waiting) == (2, 1)
        drain(machine)
        assert machine.counters.output_tokens == 9


class TestAbort:
    def test_it_frees_running_and_waiting_sequences(self) -> None:
        machine = engine(max_num_seqs=1)
        machine.submit(sequence(1))
        machine.submit(sequence(2))
        machine.step()
        assert [machine.abort(number) for number in (1, 2, 1, 7)] == [True, True, False, False]
        assert (machine.running, machine.waiting, machine.kv.used_blocks) == (0, 0, 0)

    def test_it_may_come_within_a_step(self) -> None:
        machine = engine()
        machine.submit(sequence(1, output=1))
        machine.submit(sequence(2, output=1))
        machine.start_step()
        machine.abort(1)
        result = machine.finish_step()
        assert result.emitted == (2,)
        assert machine.kv.used_blocks == 0

    def test_many_aborts_leave_no_ballast_in_the_queue(self) -> None:
        machine = engine(max_num_seqs=1)
        machine.submit(sequence(0, output=200))
        machine.step()
        for number in range(1, 1000):
            machine.submit(sequence(number))
            machine.abort(number)
        assert len(machine._waiting._heap) <= 65


ACTIONS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.integers(min_value=1, max_value=40),
        st.integers(min_value=0, max_value=20),
        st.integers(min_value=0, max_value=2),
        st.sampled_from([None, None, "a", "b", "c"]),
        st.integers(min_value=-1, max_value=1),
    ),
    st.tuples(st.just("abort"), st.integers(min_value=0, max_value=30)),
    st.just(("start",)),
    st.just(("finish",)),
)


class Interleaving:
    """An engine and what was asked of it, checked after every action."""

    def __init__(self, machine: Engine) -> None:
        self.machine = machine
        self.wanted: dict[int, int] = {}
        self.emitted: Counter[int] = Counter()
        self.done: set[int] = set()
        self.aborted: set[int] = set()

    def submit(self, prompt: int, output: int, group: int, adapter: str | None, priority: int) -> None:
        number = len(self.wanted)
        hashes = tuple(group * 1000 + index for index in range((prompt + output) // 4))
        self.wanted[number] = output
        self.machine.submit(SequenceRequest(number, prompt, output, hashes, adapter, priority))

    def abort(self, number: int) -> None:
        if self.machine.abort(number):
            self.aborted.add(number)

    def start(self) -> None:
        if not self.machine.stepping:
            self.machine.start_step()

    def finish(self) -> None:
        if self.machine.stepping:
            self.take(self.machine.finish_step())

    def take(self, result: StepResult) -> None:
        assert result.load.prefill_tokens + result.load.decode_sequences <= 16
        self.emitted.update(result.emitted)
        self.done.update(state.request.sequence_id for state in result.finished)

    def check(self) -> None:
        held = {block for state in self.machine.sequences.values() for block in state.blocks}
        assert len(held) == self.machine.kv.used_blocks
        assert self.machine.running <= 4
        assert self.machine.running + self.machine.waiting == len(self.machine.sequences)


@settings(max_examples=60, deadline=None)
@example(
    actions=[
        *[("submit", 1, 0, 0, None, 0), ("submit", 34, 8, 1, None, 0), ("start",)],
        *[("submit", 1, 0, 0, None, 0)] * 5,
        *[("submit", 33, 6, 0, None, -1), ("submit", 37, 6, 0, None, -1)],
    ],
    num_blocks=25,
    by_priority=True,
)
@given(
    actions=st.lists(ACTIONS, max_size=50),
    num_blocks=st.integers(min_value=18, max_value=40),
    by_priority=st.booleans(),
)
def test_no_interleaving_leaks_blocks_or_loses_tokens(
    actions: list[tuple[object, ...]], num_blocks: int, by_priority: bool
) -> None:
    machine = engine(num_blocks=num_blocks, priority_scheduling=by_priority, max_loras=2)
    case = Interleaving(machine)
    for action, *arguments in actions:
        getattr(case, action)(*arguments)
        case.check()
    case.finish()
    for result in drain(machine):
        case.take(result)
    assert case.done == case.wanted.keys() - case.aborted
    assert {number: case.emitted[number] for number in case.done} == {n: case.wanted[n] for n in case.done}
    assert machine.kv.used_blocks == 0
    assert machine.kv.free_blocks == machine.kv.usable_blocks
