"""Why an engine does not take a sequence."""


class QueueFullError(Exception):
    """The waiting queue is at its bound.

    Attributes:
        limit: The bound.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the waiting queue is full ({limit} requests)")
        self.limit = limit


class SequenceTooLongError(Exception):
    """A sequence needs more KV blocks than there are.

    Attributes:
        tokens: What it needs.
        capacity: What there is, in tokens.
    """

    def __init__(self, tokens: int, capacity: int) -> None:
        super().__init__(f"{tokens} tokens do not fit into a KV cache of {capacity}")
        self.tokens = tokens
        self.capacity = capacity
