"""Reads an `EndpointPickerConfig` into scheduling settings; every problem of the file is reported at once.

The format is the reference picker's, so its files work here. What has no effect here is accepted where the reference
accepts it, and said so in a warning. Anything else that is unknown is a problem.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml
from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, to_json

from endpoint_picker.config.scheduling_document import (
    PARAMETERS_WITHOUT_EFFECT,
    PLUGINS_WITHOUT_EFFECT,
    SECTIONS_WITHOUT_EFFECT,
    PluginEntry,
    ProfileEntry,
    ProfilePlugin,
    SchedulingDocument,
    UniqueKeyLoader,
)
from endpoint_picker.scheduling.catalog import PARAMETERS, Parameters
from endpoint_picker.scheduling.filters.label_selector import LabelRequirement
from endpoint_picker.scheduling.interfaces import Cost, Filter, InformedCost, InformedScorer, Scorer
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.pickers.weighted_random import WeightedRandomPicker
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheParameters
from endpoint_picker.scheduling.profile import NamedCost, WeightedScorer
from endpoint_picker.scheduling.scheduler import DEFAULT_PROFILE, SingleProfileHandler
from endpoint_picker.scheduling.settings import DEFAULT_SETTINGS, PickerSettings, ProfileSettings, SchedulingSettings

_PARAMETER_CONFIG = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, allow_inf_nan=False)


def _adapter(cls: type[Parameters]) -> TypeAdapter[Parameters]:
    return TypeAdapter(with_config(_PARAMETER_CONFIG)(cls))


with_config(_PARAMETER_CONFIG)(LabelRequirement)
_ADAPTERS: Mapping[str, TypeAdapter[Parameters]] = {
    plugin_type: _adapter(cls) for plugin_type, cls in PARAMETERS.items()
}


class SchedulingConfigError(ValueError):
    """The file cannot be used.

    Attributes:
        problems: Everything that is wrong with it, each with its path.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class _Plugin:
    """A declared plugin: None for one without effect or with bad parameters, of which that is already said."""

    plugin_type: str
    parameters: Parameters | None


@dataclass(slots=True)
class _Findings:
    """What is to be said of the file; written while it is read."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _ProfileParts:
    """The plugins of one profile by kind; written while the profile is read."""

    filters: list[Filter] = field(default_factory=list)
    scorers: list[WeightedScorer] = field(default_factory=list)
    costs: list[NamedCost] = field(default_factory=list)
    pickers: list[PickerSettings] = field(default_factory=list)

    def add(self, path: str, reference: ProfilePlugin, plugin: _Plugin, findings: _Findings) -> None:
        """Put one plugin where it belongs, or say why it belongs nowhere."""
        name, weight = reference.plugin_ref, reference.weight
        match plugin.parameters:
            case Scorer() | InformedScorer() as scorer:
                self.scorers.append(WeightedScorer(name, scorer, 1.0 if weight is None else weight))
                return
            case Filter() as candidate_filter:
                self.filters.append(candidate_filter)
            case Cost() | InformedCost() as cost:
                self.costs.append(NamedCost(name, cost))
            case PickerParameters() as parameters:
                self.pickers.append(PickerSettings(plugin.plugin_type, parameters))
            case None if plugin.plugin_type not in PLUGINS_WITHOUT_EFFECT:
                pass  # what is wrong with its declaration is said there
            case _:
                findings.problems.append(
                    f"{path}.pluginRef: plugin type {plugin.plugin_type} cannot stand in a profile"
                )
        if weight is not None:
            findings.warnings.append(f"{path}.weight: not in effect, {name} is no scorer")

    def settings(self, path: str, name: str, findings: _Findings) -> ProfileSettings:
        """Return the profile; what does not go together is reported and left out."""
        if len(self.pickers) > 1:
            findings.problems.append(f"{path}: more than one picker")
        picker = self.pickers[0] if self.pickers else PickerSettings()
        if self.costs and picker.plugin_type == WeightedRandomPicker.plugin_type:
            findings.problems.append(f"{path}: a {picker.plugin_type} needs scores, this profile has costs")
        costs = tuple(self.costs)
        if costs and self.scorers:
            findings.problems.append(f"{path}: scores and seconds do not add up; use scorers or costs")
            costs = ()
        return ProfileSettings(name, tuple(self.filters), tuple(self.scorers), costs, picker)


def read_scheduling(text: str) -> tuple[SchedulingSettings, tuple[str, ...]]:
    """Return the settings that a file's *text* describes, and warnings about what has no effect here.

    A file without profiles gives one that has all its plugins; without plugins as well, the default settings.

    Raises:
        SchedulingConfigError: The text is not such a file, or contradicts itself.
    """
    document = _parse(text)
    findings = _Findings()
    _warn_of_sections(document, findings)
    plugins = _read_plugins(document.plugins, findings)
    entries = document.scheduling_profiles
    if not entries and any(plugin.parameters for plugin in plugins.values()):
        entries = (_profile_of_all(plugins),)
    profiles = tuple(
        _read_profile(f"schedulingProfiles[{place}]", entry, plugins, findings) for place, entry in enumerate(entries)
    )
    _check_profiles(profiles, plugins, findings)
    prefix_cache = _find_prefix_cache(profiles, plugins, findings)
    if findings.problems:
        raise SchedulingConfigError(findings.problems)
    settings = SchedulingSettings(profiles, prefix_cache) if profiles else DEFAULT_SETTINGS
    return settings, tuple(findings.warnings)


def _parse(text: str) -> SchedulingDocument:
    try:
        written = to_json(yaml.load(text, Loader=UniqueKeyLoader))  # noqa: S506 - a SafeLoader
        return SchedulingDocument.model_validate_json(written)
    except ValidationError as error:
        raise SchedulingConfigError([_describe("", details) for details in error.errors()]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise SchedulingConfigError([f"not a YAML document: {error}"]) from error


def _warn_of_sections(document: SchedulingDocument, findings: _Findings) -> None:
    for attribute, key in SECTIONS_WITHOUT_EFFECT.items():
        if getattr(document, attribute) is not None:
            findings.warnings.append(f"{key}: not in effect here")
    for place, gate in enumerate(document.feature_gates):
        name, _, value = gate.partition("=")
        if value not in {"", "true", "false"}:
            findings.problems.append(f"featureGates[{place}]: {gate!r} is not name, name=true or name=false")
        elif value != "false":
            findings.warnings.append(f"featureGates[{place}]: {name} is not in effect here")


def _read_plugins(entries: Sequence[PluginEntry], findings: _Findings) -> dict[str, _Plugin]:
    plugins: dict[str, _Plugin] = {}
    for place, entry in enumerate(entries):
        path = f"plugins[{place}]"
        if entry.plugin_name in plugins:
            findings.problems.append(f"{path}: a plugin named {entry.plugin_name!r} is there already")
        plugins[entry.plugin_name] = _Plugin(entry.type, _read_parameters(path, entry, findings))
    return plugins


def _read_parameters(path: str, entry: PluginEntry, findings: _Findings) -> Parameters | None:
    if entry.type in PLUGINS_WITHOUT_EFFECT:
        findings.warnings.append(f"{path}: plugin type {entry.type} is not in effect here")
        return None
    adapter = _ADAPTERS.get(entry.type)
    if adapter is None:
        findings.problems.append(f"{path}.type: unknown plugin type {entry.type!r}; known: {_list(_ADAPTERS)}")
        return None
    written: dict[str, JsonValue] = {}
    for name, value in (entry.parameters or {}).items():
        if name in PARAMETERS_WITHOUT_EFFECT.get(entry.type, ()):
            findings.warnings.append(f"{path}.parameters.{name}: not in effect here")
        else:
            written[name] = value
    try:
        return adapter.validate_json(to_json(written))
    except ValidationError as error:
        findings.problems += [_describe(f"{path}.parameters", details) for details in error.errors()]
        return None


def _profile_of_all(plugins: Mapping[str, _Plugin]) -> ProfileEntry:
    """Return the profile of a file that has none: everything declared that can stand in a profile."""
    fitting = [
        name
        for name, plugin in plugins.items()
        if plugin.parameters is not None
        and not isinstance(plugin.parameters, SingleProfileHandler | ApproxPrefixCacheParameters)
    ]
    references = tuple(ProfilePlugin.model_validate({"pluginRef": name}) for name in fitting)
    return ProfileEntry(name=DEFAULT_PROFILE, plugins=references)


def _read_profile(
    path: str, entry: ProfileEntry, plugins: Mapping[str, _Plugin], findings: _Findings
) -> ProfileSettings:
    parts = _ProfileParts()
    seen: set[str] = set()
    for place, reference in enumerate(entry.plugins):
        name = reference.plugin_ref
        at = f"{path}.plugins[{place}]"
        plugin = plugins.get(name)
        if plugin is None:
            findings.problems.append(f"{at}.pluginRef: no plugin named {name!r}; declared: {_list(plugins)}")
        elif name in seen:
            findings.problems.append(f"{at}.pluginRef: {name!r} is in this profile already")
        else:
            seen.add(name)
            parts.add(at, reference, plugin, findings)
    return parts.settings(path, entry.name, findings)


def _check_profiles(profiles: Sequence[ProfileSettings], plugins: Mapping[str, _Plugin], findings: _Findings) -> None:
    names = [profile.name for profile in profiles]
    for place, name in enumerate(names):
        if name in names[:place]:
            findings.problems.append(f"schedulingProfiles[{place}].name: a profile named {name!r} is there already")
    handlers = [name for name, plugin in plugins.items() if isinstance(plugin.parameters, SingleProfileHandler)]
    if len(handlers) > 1:
        findings.problems.append(f"plugins: more than one profile handler: {_list(handlers)}")
    if len(profiles) > 1 and handlers:
        findings.problems.append(f"schedulingProfiles: a {SingleProfileHandler.plugin_type} takes one profile")
    if len(profiles) > 1 and DEFAULT_PROFILE not in names:
        findings.problems.append(f"schedulingProfiles: of several profiles one must be named {DEFAULT_PROFILE!r}")


def _find_prefix_cache(
    profiles: Sequence[ProfileSettings], plugins: Mapping[str, _Plugin], findings: _Findings
) -> ApproxPrefixCacheParameters | None:
    """Return the declared prefix cache, or the default one if a plugin in use asks for one."""
    declared = [
        plugin.parameters for plugin in plugins.values() if isinstance(plugin.parameters, ApproxPrefixCacheParameters)
    ]
    if len(declared) > 1:
        findings.problems.append(f"plugins: more than one {ApproxPrefixCacheParameters.plugin_type}")
    in_use = any(
        any(isinstance(weighted.scorer, InformedScorer) for weighted in profile.scorers)
        or any(isinstance(named.cost, InformedCost) for named in profile.costs)
        for profile in profiles
    )
    if in_use:
        return declared[0] if declared else ApproxPrefixCacheParameters()
    if declared:
        findings.warnings.append(f"plugins: nothing uses the {ApproxPrefixCacheParameters.plugin_type}")
    return None


def _describe(prefix: str, details: ErrorDetails) -> str:
    path = prefix
    for part in details["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{path.lstrip('.') or 'document'}: {details['msg'].removeprefix('Value error, ')}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
