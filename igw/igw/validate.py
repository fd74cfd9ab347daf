"""``igw validate``: are these manifests what the gateway can serve, and what would it serve."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from endpoint_picker.datalayer.files import LoadedManifests, load_manifests, resolve_standalone
from igw import terminal
from igw.errors import BadInput
from inference_resolution.resolved import Resolution, ResolvedPool, RouteEntry

_ANY_PORT = 8080
_MOST_ROUTES = 50


def load_valid(files: Sequence[str]) -> LoadedManifests:
    """Read *files*; every problem goes to standard error, one line each.

    Raises:
        BadInput: There are problems, or nothing to read.
    """
    if not files:
        msg = "give manifests with -f PATH"
        raise BadInput(msg)
    loaded = load_manifests(files)
    for problem in loaded.problems:
        terminal.print_problem(str(problem))
    if loaded.problems:
        count = len(loaded.problems)
        msg = f"{count} problem{'s' * (count != 1)} in {len(loaded.files)} file{'s' * (len(loaded.files) != 1)}"
        raise BadInput(msg)
    return loaded


def validate_manifests(files: Sequence[str]) -> None:
    """Print what *files* lead to, and every condition that would be False.

    Raises:
        BadInput: They cannot be used.
    """
    loaded = load_valid(files)
    resolution = resolve_standalone(loaded.resources, _ANY_PORT)
    _print_kinds(loaded)
    _print_pools(resolution)
    _print_models(resolution)
    _print_routes(resolution)
    _print_conditions(resolution)


def _print_kinds(loaded: LoadedManifests) -> None:
    kinds = Counter(resource.kind for resource in loaded.resources)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    fields = [("read", f"{counted or 'nothing'} from {terminal.joined(loaded.files)}")]
    if loaded.ignored:
        ignored = Counter(document.kind for document in loaded.ignored)
        fields.append(("ignored", ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))))
    terminal.print_fields("The manifests are valid.", fields)


def _print_pools(resolution: Resolution) -> None:
    if not resolution.pools and not resolution.unreachable:
        terminal.OUT.print("\nNo InferencePool: nothing would be served.")
        return
    table = _table("pool", "endpoints", "on failure")
    for key in sorted(resolution.pools):
        pool = resolution.pools[key]
        table.add_row(key.cluster_name, _endpoints(pool), pool.failure_mode.value)
    for key in resolution.unreachable:
        table.add_row(key.cluster_name, "unused: no HTTPRoute or InferenceModel leads here", "")
    terminal.OUT.print()
    terminal.OUT.print(table)


def _endpoints(pool: ResolvedPool) -> str:
    return terminal.joined(endpoint.address for endpoint in pool.endpoints) or "none"


def _print_models(resolution: Resolution) -> None:
    models = [(model, pool) for pool in resolution.pools.values() for _, model in sorted(pool.models.items())]
    if not models:
        return
    table = _table("model", "pool", "targets", "priority")
    for model, pool in models:
        total = sum(target.weight for target in model.targets)
        targets = [
            target.name if len(model.targets) == 1 else f"{target.name} {target.weight / total:.0%}"
            for target in model.targets
        ]
        table.add_row(
            model.model_name, f"{pool.key.namespace}/{pool.key.name}", ", ".join(targets), str(model.priority)
        )
    terminal.OUT.print()
    terminal.OUT.print(table)


def _print_routes(resolution: Resolution) -> None:
    rows = [
        (host.hostname, entry)
        for listener in resolution.listeners
        for host in listener.virtual_hosts
        for entry in host.entries
    ]
    if not rows:
        return
    table = _table("host", "route", "match", "to")
    for hostname, entry in rows[:_MOST_ROUTES]:
        table.add_row(hostname, entry.name, _match(entry), _backends(entry))
    terminal.OUT.print()
    terminal.OUT.print(table)
    if len(rows) > _MOST_ROUTES:
        terminal.OUT.print(f"and {len(rows) - _MOST_ROUTES} more routes")


def _match(entry: RouteEntry) -> str:
    match = entry.match
    parts = [match.method, f"{match.path_type.value} {match.path}"]
    parts += [f"{header.name}: {header.value}" for header in match.headers]
    parts += [f"?{query.name}={query.value}" for query in match.query]
    if entry.models is not None:
        parts.append(f"model {terminal.joined(sorted(entry.models), limit=4)}")
    return ", ".join(part for part in parts if part)


def _backends(entry: RouteEntry) -> str:
    if entry.rule.redirect is not None:
        return f"redirect {entry.rule.redirect.status}"
    names = [
        (backend.target.cluster_name if backend.target else "invalid")
        + (f" (weight {backend.weight})" if len(entry.rule.backends) > 1 else "")
        for backend in entry.rule.backends
    ]
    return ", ".join(names) or "500"


def _print_conditions(resolution: Resolution) -> None:
    for verdict in resolution.verdicts:
        if verdict.status == "False":
            subject = verdict.subject
            terminal.OUT.print(
                f"\n{subject.kind} {subject.namespace}/{subject.name}: {verdict.type}=False "
                f"({verdict.reason}): {verdict.message}"
            )


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
