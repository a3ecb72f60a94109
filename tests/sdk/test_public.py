"""The names of `import artfs`, the modules that it loads, and an example for every method."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import artfs
from artfs.sdk.manifest_entries import ArtifactFile
from artfs.sdk.run_record import RunRecord
from artfs.sdk.run_values import Summary

CLASSES = (
    artfs.Api,
    artfs.Artifact,
    artfs.ArtifactCollection,
    artfs.ArtifactManifest,
    artfs.ArtifactManifestEntry,
    artfs.ArtifactType,
    artfs.Config,
    artfs.Registry,
    artfs.Run,
    artfs.Settings,
    ArtifactFile,
    RunRecord,
    Summary,
)


def test_every_public_name_is_there() -> None:
    assert sorted(artfs.__all__) == dir(artfs)
    for name in artfs.__all__:
        getattr(artfs, name)
    with pytest.raises(AttributeError, match="nothing"):
        artfs.nothing  # noqa: B018


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_method_has_an_example(kind: type) -> None:
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        text = inspect.getdoc(member.fget if isinstance(member, property) else member)
        assert text, f"{kind.__name__}.{name} has no docstring"
        if inspect.isfunction(member):
            assert "Example:" in text, f"{kind.__name__}.{name} has no example"


def _modules(code: str, tmp_path: Path) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    return set(done.stdout.split())


def test_the_import_loads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARTFS_VOLUME", raising=False)
    assert not {name for name in _modules("import artfs", tmp_path) if name.startswith("artfs.")}
    code = "import artfs\nartifact = artfs.Artifact('x', 'y')\nartifact.add(b'x', 'x')\nartifact.save()"
    loaded = _modules(code, tmp_path)
    assert "artfs.sdk.artifact" in loaded
    assert not loaded & {"pyfuse3", "trio", "click", "rich", "numpy", "artfs.fuse", "artfs.vfs"}


def test_login_is_harmless() -> None:
    assert artfs.login(key="any")
