"""``igw config dump``: the Envoy configuration that manifests lead to."""

import json
from collections.abc import Sequence
from pathlib import Path

from endpoint_picker.datalayer.files import LISTENER_NAME, resolve_standalone
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress
from igw import terminal
from igw.errors import CommandFailed
from igw.validate import load_valid

_DIRECTORY = "/run/inference-gateway"
_REDACTED = {"redacted": "a credential; --output writes it"}


def dump_config(files: Sequence[str], *, host: str, port: int, directory: str, output: Path | None) -> None:
    """Print every file Envoy would read as one JSON object by file name, or write the files into *output*.

    Printed, the model servers' credentials are left out; in files they appear as Envoy gets them.

    Raises:
        BadInput: The manifests cannot be used.
        CommandFailed: *output* cannot be written.
    """
    loaded = load_valid(files)
    settings = EnvoySettings(
        directory=directory or (str(output.resolve()) if output else _DIRECTORY),
        listen={LISTENER_NAME: ListenAddress(host, port)},
    )
    documents = render(resolve_standalone(loaded.resources, port), settings)
    if output is None:
        shown = {name: _REDACTED if name.startswith("sds/") else document for name, document in documents.items()}
        terminal.OUT.print(json.dumps(shown, indent=2, ensure_ascii=False), soft_wrap=True)
        return
    try:
        for name, document in documents.items():
            target = output / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.touch(mode=0o600)
            target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {error.filename}: {error.strerror}"
        raise CommandFailed(msg) from None
    terminal.OUT.print(f"{len(documents)} files in {output}", soft_wrap=True)
