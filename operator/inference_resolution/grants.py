"""ReferenceGrants: whether a route may refer to an object of another namespace."""

from collections.abc import Mapping, Sequence

from inference_api.reference_grant import ReferenceGrant
from inference_resolution.resolved import ObjectKey


def may_refer(subject: ObjectKey, target: ObjectKey, grants: Mapping[str, Sequence[ReferenceGrant]]) -> bool:
    """Tell whether *subject* may refer to *target*: same namespace, or granted in the target's namespace."""
    if subject.namespace == target.namespace:
        return True
    return any(
        any(
            (item.group, item.kind, item.namespace) == (subject.group, subject.kind, subject.namespace)
            for item in grant.spec.from_
        )
        and any(
            (item.group, item.kind) == (target.group, target.kind) and item.name in {None, target.name}
            for item in grant.spec.to
        )
        for grant in grants.get(target.namespace, ())
    )
