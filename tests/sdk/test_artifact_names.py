"""Aliases, tags and paths as wandb's users write them, on a volume and over a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import artfs as wandb
from tests.sdk.conftest import Place

ALIASES = [
    *("epoch 3", "best acc=0.91", "v1.0", "+1", "@prod", "-x", "--force", "a:b", "v1:", "a/b", "/", " x "),
    *(
        "100%",
        "a%2Fb",
        "a%20b",
        "%",
        "\u00e9",
        "e\u0301",
        "\u5b9f\u9a13\u30003",
        "BEST",
        "best",
        "a\nb",
        "x" * 128,
    ),
]
TAGS = [
    "needs review",
    " x ",
    "50%",
    "50%25",
    "-x",
    "a/b:c",
    "\u00e9",
    "e\u0301",
    "a\u00a0b",
    "\u5b9f\u9a13\u30003",
    "x" * 256,
]


def make(name: str, text: str) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "model")
    artifact.add(text, "file")
    return artifact


def test_an_alias_is_any_text(place: Place, name: str) -> None:
    api = wandb.Api()
    with wandb.init() as run:
        version = run.log_artifact(make(name, "one"), aliases=ALIASES)
        assert sorted(version.aliases) == sorted([*ALIASES, "latest"])
        assert sorted(version.collection.aliases) == sorted([*ALIASES, "latest"])
        second = make(name, "two")
        second.save()
        for alias in ALIASES:
            assert api.artifact(f"{name}:{alias}").version == "v0", alias
        assert run.use_artifact(f"{name}:epoch 3").version == "v0"
        assert not api.artifact_exists(f"{name}:epoch 4")
    second.aliases.extend(ALIASES)
    second.save()
    assert sorted(api.artifact(f"{name}:a/b").aliases) == sorted([*ALIASES, "latest"])
    assert api.artifact(f"{name}:v0").aliases == []
    second.aliases = []
    second.save()
    assert version.collection.aliases == ["latest"]


def test_a_tag_is_any_text(place: Place, name: str) -> None:
    with wandb.init() as run:
        version = run.log_artifact(make(name, "one"), tags=TAGS)
    assert version.tags == TAGS
    assert wandb.Api().artifact(name).tags == TAGS
    version.tags.append("one more")
    version.tags.remove("needs review")
    version.save()
    assert wandb.Api().artifact(name).tags == [*TAGS[1:], "one more"]
    assert len(wandb.Api().artifacts("model", name, tags=["one more"])) == 1


def test_a_single_text_is_a_list_of_one(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    for file in ("keep", "drop.tmp"):
        (tmp_path / "dir" / file).write_text(file)
    artifact = wandb.Artifact(name, "model")
    artifact.add_dir("dir", exclude="*.tmp")
    artifact.aliases, artifact.tags = "best", "needs review"
    assert (artifact.aliases, artifact.tags) == (["best"], ["needs review"])
    with wandb.init() as run:
        # A tracker of a training loop passes an alias that may be empty.
        run.log_artifact(artifact, aliases=["last", "epoch 3", ""], tags="gold")
        run.log_artifact(artifact, aliases="again")
    assert sorted(artifact.aliases) == ["again", "best", "epoch 3", "last", "latest"]
    assert artifact.tags == ["needs review", "gold"]
    assert [found.version for found in wandb.Api().artifacts("model", name, tags="gold")] == ["v0"]
    assert [file.path for file in artifact.files(names="keep")] == ["keep"]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("v3", "name versions"),
        ("pending", "taken"),
        (".x", "begin with a dot"),
        ("a\0b", "NUL"),
        ("x" * 129, "128 bytes"),
        ("\u00e9" * 65, "128 bytes"),
        ("/" * 43, "128 bytes"),  # each takes three bytes
        ("\udcff", "UTF-8"),
    ],
)
def test_invalid_aliases_are_refused(place: Place, name: str, bad: str, rule: str) -> None:
    artifact = make(name, "one")
    with wandb.init() as run, pytest.raises(ValueError, match=f"^aliases: .*{rule}"):
        run.log_artifact(artifact, aliases=["fine", bad])
    artifact.aliases.append(bad)
    with pytest.raises(ValueError, match=f"^aliases: .*{rule}"):
        artifact.save()
    artifact.aliases.clear()
    artifact.save()
    assert artifact.aliases == ["latest"]


@pytest.mark.parametrize("bad", ["", "a\nb", "\t", "x" * 257, "\udcff"])
def test_invalid_tags_are_refused(place: Place, name: str, bad: str) -> None:
    with wandb.init() as run, pytest.raises(ValueError, match=r"^tags"):
        run.log_artifact(make(name, "one"), tags=["fine", bad])


def test_any_file_name_is_an_alias(place: Place, name: str) -> None:
    version = make(name, "one")
    version.save()
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    names = st.text(letters, min_size=1, max_size=30).filter(lambda text: text[0] not in ".v")

    @settings(max_examples=3, deadline=None, suppress_health_check=[*HealthCheck])
    @given(aliases=st.lists(names, min_size=20, unique=True))
    def check(aliases: list[str]) -> None:
        version.aliases = aliases
        version.save()
        found = wandb.Api().artifact(f"{name}:{aliases[0]}")
        assert sorted(found.aliases) == sorted({*aliases, "latest"} - {"pending"})

    check()


PATHS = {
    "./a": "a",
    "a//b": "a/b",
    "a/./b": "a/b",
    "a/": "a",
    "./data/x": "data/x",
    ".//a//": "a",
    " a": " a",
    "a\\b": "a\\b",
    "...": "...",
    "a\nb": "a\nb",
    ".a": ".a",
    "C:x": "C:x",
}


def test_paths_are_normalised(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("hello")
    artifact = wandb.Artifact(name, "model")
    for spelled, path in PATHS.items():
        assert artifact.add_file("dir/x", spelled).path == path
        artifact.remove(spelled)
        assert artifact.add(b"hello", spelled).path == path
        artifact.remove(spelled)
        artifact.add_dir("dir", spelled)
        artifact.remove(spelled)
        if not place.mounted:  # a mount by root requires that all users may read it
            (entry,) = artifact.add_reference((tmp_path / "dir" / "x").as_uri(), spelled)
            assert entry.path == path
            artifact.remove(spelled)
        with artifact.new_file(spelled) as file:
            file.write("hello")
        assert path in artifact.manifest
        if path in ("a", "a/b"):
            artifact.remove("a")  # a file, and then a directory
    with artifact.new_file("./a//b") as file:
        file.write("hello")
    artifact.save()
    for spelled, path in PATHS.items():
        if path != "a":
            assert artifact.get_entry(spelled).path == path
            assert [entry.path for entry in artifact.files(names=[spelled])] == [path]
            with artifact.open(spelled) as opened:
                assert opened.read() == b"hello"
    out = Path(artifact.download(tmp_path / "out", path_prefix="./data//x"))
    assert [(found.name, found.read_text()) for found in (out / "data").iterdir()] == [("x", "hello")]


def test_the_top_of_an_artifact_has_four_spellings(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("hello")
    for top in (None, "", ".", "./"):
        artifact = wandb.Artifact(name, "model")
        artifact.add_dir("dir", top)
        artifact.save()
        assert [entry.path for entry in artifact.files()] == ["x"]
        assert os.listdir(artifact.download(tmp_path / f"out{top!r}".replace("/", "-"), path_prefix=top)) == [
            "x"
        ]


def test_a_download_has_a_default_directory(
    place: Place, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make(name, "one")
    artifact.save()
    here = tmp_path / "artifacts"
    assert artifact.download() == artifact.file().removesuffix("/file.txt") == f"{here}/{name}:v0"
    assert artifact.checkout() == f"{here}/{name}"
    assert artifact.download("given") == "given"
    for variable in ("WANDB_ARTIFACT_DIR", "ARTFS_ARTIFACT_DIR"):  # the second has precedence
        monkeypatch.setenv(variable, variable)
        assert artifact.download() == f"{tmp_path}/{variable}/{name}:v0"
        artifact.verify()
