"""Manifests come from files, folders, patterns and streams, in the order given; every problem is found at once."""

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from endpoint_picker.datalayer import files
from endpoint_picker.datalayer.files import expand, is_stream, load_manifests, resolve_standalone

OBJECTIVE = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: NAME}
spec: {poolRef: {name: p}}
"""


def objective(name: str) -> str:
    return OBJECTIVE.replace("NAME", name)


def names_in(*paths: str | Path) -> list[str]:
    loaded = load_manifests([str(path) for path in paths])
    assert loaded.problems == ()
    return [resource.metadata.name for resource in loaded.resources]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.yaml", "a.yml", "c.json", "d.txt"):
        (tmp_path / name).write_text(objective(name[0]))
    (tmp_path / "c.json").write_text('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.yaml").write_text(objective("e"))
    return tmp_path


def test_a_folder_gives_its_manifests_sorted_and_deep(folder: Path) -> None:
    assert names_in(folder) == ["a", "b", "c", "e"]


def test_hidden_names_are_left_out(folder: Path) -> None:
    (folder / ".b.yaml.swp.yaml").write_text("broken: [")
    (folder / "..data").mkdir()
    (folder / "..data" / "b.yaml").write_text(objective("b"))
    assert names_in(folder) == ["a", "b", "c", "e"]


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    hidden = tmp_path / ".hidden"
    hidden.mkdir()
    (hidden / "a.yaml").write_text(objective("a"))
    assert names_in(hidden) == ["a"]


def test_the_order_given_is_kept_and_each_file_counts_once(folder: Path) -> None:
    assert names_in(folder / "b.yaml", folder / "*.y*ml", folder / "sub") == ["b", "a", "e"]


def test_patterns_reach_down(folder: Path) -> None:
    assert names_in(folder / "**" / "*.yaml") == ["b", "e"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        pytest.param("none.yaml", "no such file or folder", id="missing"),
        pytest.param("*.none", "nothing matches", id="pattern"),
        pytest.param("empty", "the folder holds no .yaml, .yml or .json file", id="empty-folder"),
        pytest.param("x" * 300, "cannot be read: File name too long", id="name-too-long"),
        pytest.param("loop", "no such file or folder", id="symlink-loop"),
    ],
)
def test_paths_that_give_nothing(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert expand(str(tmp_path / path)) == ([], problem)
    (found,) = load_manifests([str(tmp_path / path)]).problems
    assert (found.source, found.message) == (str(tmp_path / path), problem)


def test_every_problem_of_every_file_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text(objective("x") + "---\n" + objective("Not Valid"))
    (tmp_path / "c.yaml").write_text(objective("x"))
    sources = [Path(problem.source).name for problem in load_manifests([str(tmp_path)]).problems]
    assert sources == ["a.yaml", "b.yaml", "c.yaml"]  # the last one repeats a resource of the second


def test_a_file_of_a_folder_that_goes_meanwhile_is_as_if_it_had_not_been_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_manifests([str(folder)])
    found = files.expand(str(folder))[0]
    monkeypatch.setattr(files, "expand", lambda _: ([*found, str(folder / "gone.yaml")], ""))
    after = load_manifests([str(folder)])
    assert (after.located, after.problems) == (before.located, ())


def test_a_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.yaml").write_text("a" * 11)
    (problem,) = load_manifests([str(tmp_path)]).problems
    assert problem.message == "larger than 10 bytes"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(objective("s").encode())))
    loaded = load_manifests([str(folder / "b.yaml"), "-", str(folder / "a.yml")])
    assert [entry.source for entry in loaded.located] == [str(folder / "b.yaml"), "<stdin>", str(folder / "a.yml")]
    assert loaded.streams == {"-"}
    again = load_manifests([str(folder / "b.yaml"), "-", str(folder / "a.yml")], earlier=loaded)
    assert again == loaded


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(objective("p")))
    writer.start()
    loaded = load_manifests([str(pipe)])
    writer.join()
    assert is_stream(str(pipe))
    assert load_manifests([str(pipe)], earlier=loaded) == loaded  # would block if it were opened


def test_standalone_takes_every_route_and_model() -> None:
    listener = resolve_standalone([], 8080).listeners[0]
    assert (listener.name, listener.port, listener.virtual_hosts) == ("http", 8080, ())


def test_files_without_anything_of_ours_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing yet\n")
    assert [str(problem) for problem in load_manifests([str(empty)]).problems] == [
        f"{empty}: there is no resource of the gateway in it"
    ]


def test_a_pool_whose_annotations_cannot_be_honoured_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\n"
        "metadata: {name: p, annotations: {inferencegateway.dev/first-token-timeout: '30 s'}}\n"
        "spec: {selector: {matchLabels: {a: b}}, targetPorts: [{number: 1}]}\n"
        "---\napiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: m}\n"
        "spec: {modelName: m, poolRef: {name: p}}\n"
    )
    (problem,) = load_manifests([str(file)]).problems
    assert str(problem).startswith(f"{file}:1: InferencePool/p: metadata: Annotation inferencegateway.dev/first-token")
