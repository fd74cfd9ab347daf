"""Metadata of an object, and what every object has."""

from pydantic import AwareDatetime, Field

from inference_api.schema import Integer, Labels, OpenModel, StrictModel, Subdomain


class ObjectMeta(OpenModel):
    """The metadata that is read; everything else passes.

    Attributes:
        name: Name of the object, unique per group, kind and namespace.
        namespace: ``default`` where none is given; without meaning for cluster-scoped kinds.
        uid: Set by the API server; empty in files.
        labels: Labels of the object.
        annotations: Annotations of the object.
        generation: Counts changes of the spec; 0 in files.
        resource_version: Set by the API server; empty in files.
        creation_timestamp: None in files, where the order of the documents stands for it.
        deletion_timestamp: Set while the object is being deleted.
    """

    name: Subdomain
    namespace: Subdomain = "default"
    uid: str = ""
    labels: Labels = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: Integer = 0
    resource_version: str = ""
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None


def group_of(api_version: str) -> str:
    """Return the API group of *api_version*, empty for the core group."""
    return api_version.rpartition("/")[0]


class StrictObject(StrictModel):
    """An object whose whole schema is known here; `status` belongs to controllers and passes untouched."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    status: dict[str, object] = Field(default_factory=dict)

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        return group_of(self.api_version)


class OpenObject(OpenModel):
    """An object of which some fields are read."""

    api_version: str
    kind: str
    metadata: ObjectMeta

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        return group_of(self.api_version)
