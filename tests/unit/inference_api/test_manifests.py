"""Manifests: hostile or wrong text becomes problems with file, line and path, all at once; never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_api import manifests, yaml_nodes
from inference_api.inference_pool import InferencePool
from inference_api.manifests import find_duplicates, parse_manifests

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: a}
spec:
  selector: {matchLabels: {app: vllm}}
  targetPorts: [{number: 8000}]
"""


def messages(text: str | bytes) -> list[str]:
    return [str(problem) for problem in parse_manifests(text, "f.yaml").problems]


def test_several_documents_lists_and_empty_documents_are_read() -> None:
    typed = "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePoolList\nitems:\n"
    typed += "- metadata: {name: b}\n  spec: {selector: {matchLabels: {a: b}}, targetPorts: [{number: 1}]}\n"
    parsed = parse_manifests(f"# nothing\n---\n---\n{POOL}---\n{typed}", "f.yaml")
    assert parsed.problems == ()
    assert [(item.resource.metadata.name, item.line) for item in parsed.resources] == [("a", 4), ("b", 14)]
    assert all(isinstance(item.resource, InferencePool) for item in parsed.resources)


def test_json_with_tabs_and_escaped_surrogates_is_read() -> None:
    text = '{\n\t"apiVersion": "v1",\n\t"kind": "Secret", "metadata": {"name": "s", "annotations": '
    text += '{"a": "\\ud83d\\ude00"}}}'
    parsed = parse_manifests(text, "f.json")
    assert parsed.problems == ()
    assert parsed.resources[0].resource.metadata.annotations == {"a": "😀"}


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_a_line_end_of_yaml_alone_stays_in_the_text_of_json(character: str) -> None:
    text = '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {"a": "b @ c"}}}'
    text = text.replace("@", character)
    parsed = parse_manifests(text, "f.json")
    assert parsed.problems == ()
    assert parsed.resources[0].resource.metadata.annotations == {"a": f"b {character} c"}


def test_what_is_too_much_as_yaml_is_not_read_as_json_either(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (manifests, yaml_nodes):
        monkeypatch.setattr(module, "MAX_NODES", 100)
    text = '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "x": [' + "1," * 100 + "1]}"
    assert messages(text) == ["f.yaml:1: more than 100 values, aliases expanded"]


def test_foreign_kinds_are_ignored_and_reported() -> None:
    parsed = parse_manifests("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", "f.yaml")
    assert parsed.problems == ()
    assert [(item.kind, item.name, item.line) for item in parsed.ignored] == [("Deployment", "d", 1)]


def test_every_problem_is_reported_with_line_and_path() -> None:
    text = POOL.replace("app: vllm", "app: yes").replace("[{number: 8000}]", "[{number: 0}]\n  extra: 1")
    assert messages(text) == [
        (
            "f.yaml:5: InferencePool/a: spec.selector.matchLabels.app: must be a string, not a boolean; "
            'put the value in quotes: "yes"'
        ),
        "f.yaml:6: InferencePool/a: spec.targetPorts[0].number: must be greater than or equal to 1",
        "f.yaml:7: InferencePool/a: spec.extra: unknown field",
    ]


def bomb() -> str:
    lines = ["a0: &a0 [1, 1]"]
    lines.extend(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"\xff", "f.yaml:1: not UTF-8 text", id="not-utf-8"),
        pytest.param("a: 1\nb: \0", "f.yaml:2: character U+0000 is not allowed", id="nul"),
        pytest.param("a:\n\tb: 1", "f.yaml:2: not valid YAML: indentation must be spaces, not tabs", id="tab"),
        pytest.param("[" * 100_000, "f.yaml:1: nested more than 100 levels deep", id="deep"),
        pytest.param(bomb(), "f.yaml:18: more than 1000000 values, aliases expanded", id="alias-bomb"),
        pytest.param("a: &x [*x]", "f.yaml:1: alias *x contains itself", id="alias-cycle"),
        pytest.param("5", "f.yaml:1: a resource must be a mapping with apiVersion and kind", id="wrong-root"),
        pytest.param(
            "a: b\na: c", "f.yaml:2: key 'a' stands twice in the same mapping, first on line 1", id="duplicate"
        ),
        pytest.param("a: " + "9" * 10_000, "f.yaml:1: number 99999999999999999999… is too large", id="huge-number"),
        pytest.param("kind: Pod", "f.yaml:1: Pod: apiVersion: is required", id="no-api-version"),
        pytest.param(
            "apiVersion: inference.networking.k8s.io/v1\nkind: Pool",
            "f.yaml:2: Pool: kind: inference.networking.k8s.io/v1 Pool is not supported; "
            "supported: inference.networking.k8s.io/v1 InferencePool",
            id="unknown-kind-of-a-known-group",
        ),
        pytest.param(
            "apiVersion: inference.networking.k8s.io/v2\nkind: InferencePool",
            "f.yaml:1: InferencePool: apiVersion: 'inference.networking.k8s.io/v2' is not supported for InferencePool; "
            "supported: inference.networking.k8s.io/v1",
            id="unknown-version",
        ),
    ],
)
def test_hostile_text(text: str | bytes, expected: str) -> None:
    assert messages(text)[0] == expected


def test_documents_before_broken_syntax_are_kept() -> None:
    parsed = parse_manifests(f"{POOL}---\n{{", "f.yaml")
    assert len(parsed.resources) == 1
    assert parsed.problems[0].line in {8, 9}  # the two parsers of PyYAML differ


def test_duplicates_are_found_over_sources() -> None:
    located = [item for name in ("a.yaml", "b.yaml") for item in parse_manifests(POOL, name).resources]
    assert [str(problem) for problem in find_duplicates(located)] == [
        "b.yaml:1: InferencePool/a: the same object in namespace default stands already at a.yaml:1"
    ]


def test_a_secret_never_shows_its_values() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {api-key: 'hunter2!'}\nstringData: {b: [hunter2]}"
    assert "hunter2" not in "".join(messages(text))
    parsed = parse_manifests(text.replace("[hunter2]", "x").replace("'hunter2!'", "aHVudGVyMg=="), "f.yaml")
    assert "aHVu" not in repr(parsed)


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.text("[]{}:-&*!<\n \t\"'a?|>,#%", max_size=60)))
def test_no_text_raises(text: str | bytes) -> None:
    for problem in parse_manifests(text, "f").problems:
        assert str(problem).startswith("f:")
