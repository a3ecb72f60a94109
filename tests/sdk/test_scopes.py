"""Entities, projects and registries before a name are kept apart; links."""

from __future__ import annotations

import pytest

import artfs as wandb
from tests.sdk.conftest import Place


def make(name: str, text: str) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "model")
    artifact.add(text, "file")
    return artifact


def read(name: str) -> bytes:
    with wandb.Api().artifact(name).open("file.txt") as file:
        found: bytes = file.read()
        return found


def saved(name: str, *texts: str) -> list[wandb.Artifact]:
    found = [make(name, text) for text in texts]
    for artifact in found:
        artifact.save()
    return found


def test_registries_are_kept_apart(place: Place, name: str) -> None:
    with wandb.init() as run:
        for registry in ("staging", "production"):
            run.link_artifact(make(f"{name}-{registry}", registry), f"wandb-registry-{registry}/{name}")
    assert read(f"wandb-registry-staging/{name}") == b"staging"
    assert read(f"wandb-registry-production/{name}:latest") == b"production"
    # Both spellings mean the same collection.
    assert read(f"wandb-registry-staging.{name}:v0") == b"staging"
    assert wandb.Api().artifact_collection_exists(f"wandb-registry-staging/{name}", "model")
    for nothing in (name, f"wandb-registry-other/{name}", f"demo/wandb-registry-staging.{name}"):
        assert not wandb.Api().artifact_exists(nothing)
        with pytest.raises(LookupError, match=r"there is no collection"):
            wandb.Api().artifact(nothing)


def test_a_link_may_have_the_name_of_its_source(place: Place, name: str) -> None:
    old, _ = saved(name, "old", "new")
    with wandb.init() as run:
        linked = run.link_artifact(old, f"wandb-registry-model/{name}", aliases=["in production"])
    assert read(f"{name}:latest") == b"new"
    assert read(f"wandb-registry-model/{name}:in production") == b"old"
    assert [version.version for version in wandb.Api().artifacts("model", name)] == ["v1", "v0"]
    assert linked.is_link
    assert (linked.name, linked.version, linked.project) == (f"{name}:v0", "v0", "wandb-registry-model")
    linked.unlink()
    assert not wandb.Api().artifact_exists(f"wandb-registry-model/{name}")
    assert [version.version for version in wandb.Api().artifacts("model", name)] == ["v1", "v0"]


def test_a_link_knows_its_source(place: Place, name: str) -> None:
    target = f"wandb-registry-model/{name}-best"
    with wandb.init(entity="me", project="demo") as maker:
        saved(name, "one")
        source = make(name, "two")
        source.metadata = {"accuracy": 0.9}
        source.description = "the second"
        source.tags = ["needs review"]
        maker.log_artifact(source)
    with wandb.init(project="registering") as run:
        link = run.link_artifact(source, target, aliases="best")
    for found in (link, wandb.Api().artifact(f"{target}:best"), wandb.Api().artifact(link.qualified_name)):
        assert found.is_link
        assert (found.name, found.version) == (f"{name}-best:v0", "v0")
        assert found.qualified_name == f"wandb-registry-model/{name}-best:v0"
        assert (found.source_name, found.source_version) == (f"{name}:v1", "v1")
        assert found.source_qualified_name == f"me/demo/{name}:v1"
        assert (found.source_entity, found.source_project) == ("me", "demo")
        assert found.source_artifact.name == f"{name}:v1"
        assert found.source_collection.description == source.collection.description
        assert (found.metadata, found.description, found.tags) == (
            {"accuracy": 0.9},
            "the second",
            ["needs review"],
        )
        assert found.digest == source.digest
        maker_found = found.logged_by()
        assert maker_found is not None
        assert maker_found.id == maker.id
    assert not source.is_link
    assert (source.source_name, source.qualified_name) == (f"{name}:v1", f"me/demo/{name}:v1")
    assert source.source_artifact is source
    assert [found.qualified_name for found in source.linked_artifacts] == [link.qualified_name]
    assert link.linked_artifacts == []
    # A draft of a link is one of its source.
    draft = link.new_draft()
    assert (draft.name, draft.source_version) == (name, "v1")
    draft.add("more", "more")
    draft.save()
    assert draft.name == f"{name}:v2"
    assert draft.qualified_name == f"me/demo/{name}:v2"
    # A link to a link is one to its source.
    again = link.link(f"wandb-registry-other/{name}-best")
    assert again.source_name == f"{name}:v1"


def test_a_second_link_is_the_first(place: Place, name: str) -> None:
    target = f"wandb-registry-model/{name}"
    first, second = saved(name, "one", "two")
    assert [artifact.link(target).version for artifact in (first, second, first, second)] == [
        *("v0", "v1", "v0", "v1")
    ]
    again = first.link(target, aliases=["best"])
    assert (again.version, again.unchanged, sorted(again.aliases)) == ("v0", True, ["best"])
    assert again.collection.aliases == ["best", "latest"]
    # The same content of another version is another link.
    (other,) = saved(f"{name}-other", "two")
    third = other.link(target)
    assert (third.version, third.source_name) == ("v2", f"{name}-other:v0")
    assert third.digest == second.digest
    third.unlink()
    assert other.link(target).version == "v3"


def test_linking_a_draft_saves_it(place: Place, name: str) -> None:
    draft = make(name, "one")
    link = draft.link(f"wandb-registry-model/{name}")
    assert (draft.name, draft.state, link.source_name) == (f"{name}:v0", "COMMITTED", f"{name}:v0")
    with wandb.init() as run:
        link = run.link_artifact(make(name, "two"), f"wandb-registry-model/{name}")
        assert link.source_name == f"{name}:v1"
        assert f"{name}:v1" in [made.name for made in run.logged_artifacts()]


def test_a_changed_fork_is_no_link(place: Place, name: str) -> None:
    (source,) = saved(name, "one")
    fork = source.new_draft()
    fork.add("more", "more")
    fork.save()
    assert not fork.is_link
    with pytest.raises(ValueError, match="is no link"):
        fork.unlink()
    for own in (name, f"some/{name}"):
        with pytest.raises(ValueError, match="a version of that collection itself"):
            source.link(own)


@pytest.mark.parametrize(
    ("recorded", "asked", "there"),
    [
        (("me", "demo"), "{}", True),
        (("me", "demo"), "demo/{}", True),
        (("me", "demo"), "me/demo/{}", True),
        (("me", "demo"), "other/{}", False),
        (("me", "demo"), "you/demo/{}", False),
        (("me", "demo"), "me/other/{}", False),
        ((None, "demo"), "me/demo/{}", True),
        ((None, "demo"), "me/other/{}", False),
        (("me", None), "me/demo/{}", True),
        (("me", None), "you/demo/{}", False),
        ((None, None), "me/demo/{}", True),
    ],
)
def test_projects_are_kept_apart(
    place: Place, name: str, recorded: tuple[str | None, str | None], asked: str, there: bool
) -> None:
    entity, project = recorded
    with wandb.init(entity=entity, project=project):
        saved(name, "one")
    wanted = asked.format(name)
    assert wandb.Api().artifact_exists(f"{wanted}:v0") is there
    assert wandb.Api().artifact_collection_exists(wanted, "model") is there
    with wandb.init(project="elsewhere") as run:  # runs of all projects may read
        if there:
            assert run.use_artifact(wanted).version == "v0"
            return
        with pytest.raises(LookupError, match=rf"'{name}' belongs to"):
            run.use_artifact(wanted)


def test_two_projects_have_no_collection_in_common(place: Place, name: str) -> None:
    with wandb.init(project="first"):
        saved(name, "one")
    with wandb.init(project="second") as run:
        other = make(name, "two")
        with pytest.raises(ValueError, match=r"belongs to first/\*, not to second/\*"):
            run.log_artifact(other)
        with pytest.raises(ValueError, match="belongs to first"):
            run.upsert_artifact(make(name, "three"), distributed_id="x")
        with pytest.raises(ValueError, match="belongs to first"):
            saved(f"{name}-source", "four")[0].link(name)
    with pytest.raises(ValueError, match="belongs to first"):
        other.save(project="third")
    with wandb.init(entity="me", project="first"):  # adds the entity
        other.save()
    assert (other.version, other.qualified_name) == ("v1", f"me/first/{name}:v1")
    saved(name, "without a run")
    assert [one.version for one in wandb.Api().artifacts("model", f"me/first/{name}")] == ["v2", "v1", "v0"]


def test_a_collection_made_by_others_takes_the_first_project(place: Place, name: str) -> None:
    saved(name, "by nobody in particular")
    assert wandb.Api().artifact(name).qualified_name == f"{name}:v0"
    with wandb.init(project="first"):
        saved(name, "one")
    assert wandb.Api().artifact(name).qualified_name == f"first/{name}:v1"


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("a/b/c/{}", "more before the name"),
        ("wandb-registry-/{}", "after wandb-registry-"),
        ("wandb-registry-a.b/{}", "after wandb-registry-"),
        ("demo\\x/{}", "without"),
        ("demo/{}:", "after the colon"),
        ("demo/", "is empty"),
        ("demo/not a name", "letters"),
        ("wandb-registry-" + "x" * 110 + "/{}", "1 to 128"),
    ],
)
def test_invalid_qualified_names_are_refused(place: Place, name: str, bad: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        wandb.Api().artifact(bad.format(name))
    (source,) = saved(name, "one")
    with pytest.raises(ValueError, match=rule):
        source.link(bad.format(f"{name}-linked"))


def test_lists_are_of_a_project_or_registry(place: Place, name: str) -> None:
    api, kind = wandb.Api(), f"kind-{name}"

    def log(collection: str) -> wandb.Artifact:
        artifact = wandb.Artifact(collection, kind)
        artifact.add("text", "file")
        artifact.save()
        return artifact

    with wandb.init(project="demo") as run:
        run.link_artifact(log(f"{name}-demo"), f"wandb-registry-{name}/best")
    with wandb.init(project="other"):
        log(f"{name}-other")
    log(f"{name}-free")
    for project, names in (
        (None, ["best", f"{name}-demo", f"{name}-free", f"{name}-other"]),
        ("demo", [f"{name}-demo", f"{name}-free"]),
        ("me/other", [f"{name}-free", f"{name}-other"]),
        (f"wandb-registry-{name}", ["best"]),
    ):
        found = api.artifact_collections(project, kind)
        assert sorted(one.name for one in found) == names
        assert kind in [one.name for one in api.artifact_types(project)]
    with pytest.raises(ValueError, match="no collection has this type"):
        api.artifact_type(kind, "wandb-registry-nothing")
    assert api.run(f"demo/{run.id}").id == api.run(run.id).id == run.id
    with pytest.raises(LookupError, match="there is no run"):
        api.run(f"other/{run.id}")
