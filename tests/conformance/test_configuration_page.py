"""The configuration page says what the code does, for it is made from the code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_names_every_kind_of_setting() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for part in (
        "| `--max-body-bytes` | `IGW_MAX_BODY_BYTES` | `maxBodyBytes` | integer | `33554432` |",
        "| `--manifest`, `-f` |",
        "### `igw up`",
        "| `--file`, `-f` |",
        "### `queue-scorer`",
        "| `neutralSpread` | `0` |",
        "| `inferencegateway.dev/first-token-timeout` |",
        "| `inference_gateway_attempts_total` | counter | `endpoint`, `outcome` |",
    ):
        assert part in page
