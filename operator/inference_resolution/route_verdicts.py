"""Conditions of an HTTPRoute for each of its parents."""

from collections.abc import Iterable

from inference_resolution.attachment import ParentOutcome
from inference_resolution.resolved import ObjectKey, Verdict
from inference_resolution.rules import RouteOutcome


def route_verdicts(outcome: RouteOutcome, parents: Iterable[ParentOutcome]) -> list[Verdict]:
    """Return Accepted and ResolvedRefs, and PartiallyInvalid where a part is left out, for each parent."""
    verdicts = []
    for parent in parents:
        verdicts.append(_accepted(outcome, parent))
        verdicts.append(_resolved_refs(outcome, parent))
        if outcome.problems.values and outcome.entries and parent.hosts:
            message = " ".join(outcome.problems.values)
            verdicts.append(
                _verdict(outcome.subject, parent, "PartiallyInvalid", "UnsupportedValue", message, holds=True)
            )
    return verdicts


def _accepted(outcome: RouteOutcome, parent: ParentOutcome) -> Verdict:
    if parent.hosts and not outcome.entries:
        message = " ".join(outcome.problems.values)
        return _verdict(outcome.subject, parent, "Accepted", "UnsupportedValue", message, holds=False)
    return _verdict(outcome.subject, parent, "Accepted", parent.reason, parent.message, holds=bool(parent.hosts))


def _resolved_refs(outcome: RouteOutcome, parent: ParentOutcome) -> Verdict:
    references = outcome.problems.references
    if not references:
        message = "All backendRefs are resolved."
        return _verdict(outcome.subject, parent, "ResolvedRefs", "ResolvedRefs", message, holds=True)
    message = " ".join(dict.fromkeys(message for _, message in references))
    return _verdict(outcome.subject, parent, "ResolvedRefs", references[0][0], message, holds=False)


def _verdict(  # the fields of a condition
    subject: ObjectKey, parent: ParentOutcome, type_: str, reason: str, message: str, *, holds: bool
) -> Verdict:
    return Verdict(
        subject=subject,
        parent=parent.gateway,
        type=type_,
        status="True" if holds else "False",
        reason=reason,
        message=message,
        section_name=parent.section_name,
        parent_port=parent.port,
    )
