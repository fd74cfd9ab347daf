"""Everything a simulated server's handlers share: one life of one server process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from igw.simulator.api_bodies import ApiError
from igw.simulator.engine import Engine
from igw.simulator.faults import FaultDraw
from igw.simulator.realtime import RealTimeEngine
from igw.simulator.settings import SimulatorSettings
from igw.simulator.statistics import ServerStatistics


@dataclass(slots=True)
class ServerState:
    """State of a server from its start to its stop; a restart begins with a new one, as a new process would.

    Attributes:
        settings: What it was told.
        statistics: What it counted; written by handlers and engine.
        engine: The engine in real time.
        faults: Which faults it has; replaced by the control handler.
        adapters: Paths of registered LoRA adapters by name; written by the adapter handlers.
        started_seconds: Unix time of the start.
        dead: Whether the engine has died, although the server goes on answering.
        died: Told when it dies, with the seconds that the server goes on for; set by the server.
    """

    settings: SimulatorSettings
    faults: FaultDraw
    statistics: ServerStatistics = field(default_factory=ServerStatistics)
    engine: RealTimeEngine = field(init=False)
    adapters: dict[str, str] = field(init=False)
    started_seconds: float = field(default_factory=time.time)
    dead: bool = False
    died: Callable[[float], None] = lambda _seconds: None

    def __post_init__(self) -> None:
        engine = Engine(self.settings.engine_sizes, self.settings.preset.timing)
        self.engine = RealTimeEngine(engine, self.statistics, time_scale=self.settings.time_scale)
        self.adapters = {name: f"/adapters/{name}" for name in self.settings.adapters}

    def die(self, seconds: float) -> None:
        """Let the engine die; the server goes on for some seconds."""
        if not self.dead:
            self.dead = True
            self.engine.stop()
            self.died(seconds)

    @property
    def base_model(self) -> str:
        """First name of the base model."""
        return self.settings.models[0]

    @property
    def lora(self) -> bool:
        """Whether the server serves adapters at all."""
        return self.settings.engine_sizes.max_loras > 0

    def resolve_model(self, name: str | None) -> tuple[str, str | None]:
        """Return the name to answer with and the adapter, None for the base model; ApiError for an unknown name."""
        if not name:
            return self.base_model, None
        if name in self.settings.models:
            return name, None
        if name in self.adapters:
            return name, name
        aliases = ", ".join(self.settings.models)
        message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
        raise ApiError(404, "NotFoundError", message, "model")
