"""Two real vLLM servers behind ``igw up``, asked with the OpenAI SDK: a table of checks, exit code 1 if one fails.

``python run.py`` in the project's environment; the first run installs vLLM into ``.cache/vllm-demo``. With
``--servers-only`` the servers run until interrupted, for requests by hand.
"""

import argparse
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from child import ChildFailedError
from failure_checks import FailureChecks
from gateway import running_gateway
from install import InstallError, VllmEnvironment
from metrics_checks import MetricsChecks
from protocol_checks import ALIASES, ProtocolChecks
from report import Report
from servers import MODEL, ModelServer, running_servers

SERVERS: Final = 2
_ROOT: Final = Path(__file__).resolve().parents[2]
_MODEL_SECONDS: Final = 120.0


def main() -> int:
    """Install what is missing, start the servers and check them; return the exit code."""
    parser = argparse.ArgumentParser(description="Run two vLLM servers on the CPU behind the gateway and check them.")
    parser.add_argument("--folder", type=Path, default=_ROOT / ".cache" / "vllm-demo", help="environment, model, logs")
    parser.add_argument("--servers-only", action="store_true", help="only run the servers, until interrupted")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    # The children are in process groups of their own: end them in order, whoever asks for the end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environment = VllmEnvironment(folder)
    try:
        environment.ensure()
        model_folder = folder / "model"
        _write_model(environment.python, model_folder)
        with running_servers(folder, environment.python, model_folder, SERVERS) as servers:
            if arguments.servers_only:
                return _serve(servers)
            return _check(folder, servers)
    except (InstallError, ChildFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _write_model(python: Path, model_folder: Path) -> None:
    script = Path(__file__).with_name("model.py")
    subprocess.run([str(python), str(script), str(model_folder)], check=True, timeout=_MODEL_SECONDS)


def _serve(servers: tuple[ModelServer, ...]) -> int:
    urls = ",".join(server.url for server in servers)
    print(f"\nservers are up; in front of them: igw up --pool {MODEL}={urls}\nCtrl-C ends them")
    threading.Event().wait()
    return 0


def _check(folder: Path, servers: tuple[ModelServer, ...]) -> int:
    urls = [server.url for server in servers]
    report = Report()
    with running_gateway(folder, MODEL, urls, ALIASES) as gateway:
        checks = (
            ProtocolChecks(gateway, servers),
            MetricsChecks(gateway, servers),
            FailureChecks(gateway, servers),
        )
        for group in checks:
            for name, check in group.table():
                report.run(name, check)
    report.print_table()
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
