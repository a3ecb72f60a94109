"""Which control files each subject has: the only list of them."""

from __future__ import annotations

from artfs.vfs.control.base_file import BaseFile, LinkFile
from artfs.vfs.control.changes_file import ChangesFile, DiffFile
from artfs.vfs.control.discard_file import DiscardFile
from artfs.vfs.control.error_file import ErrorFile
from artfs.vfs.control.finish_file import PendingFinishFile, VersionFinishFile
from artfs.vfs.control.labels_file import PendingLabelsFile, VersionLabelsFile
from artfs.vfs.control.manifest_file import ManifestFile
from artfs.vfs.control.metadata_file import PendingMetadataFile, VersionMetadataFile
from artfs.vfs.control.metrics_file import MetricsFile
from artfs.vfs.control.owners_file import OwnersFile
from artfs.vfs.control.readme_file import ReadmeFile
from artfs.vfs.control.references_file import ReferencesFile
from artfs.vfs.control.runs_file import PendingRunsFile, RunsDirectory, UsedByFile
from artfs.vfs.control.status_file import (
    PendingStatusFile,
    UpdatedAtFile,
    VersionStatusFile,
    VolumeStatusFile,
)
from artfs.vfs.control.text_files import COLLECTION_TEXTS, PENDING_TEXTS, VERSION_TEXTS
from artfs.vfs.control.versions_file import VersionsFile

VOLUME_FILES = (ReadmeFile(), VolumeStatusFile(), MetricsFile(), RunsDirectory(), ErrorFile())
COLLECTION_FILES = (*COLLECTION_TEXTS, VersionsFile(), ErrorFile())
PENDING_FILES = (
    PendingFinishFile(),
    DiscardFile(),
    PendingStatusFile(),
    ErrorFile(),
    BaseFile(),
    LinkFile(),
    ChangesFile(),
    PendingMetadataFile(),
    PendingLabelsFile(),
    *PENDING_TEXTS,
    PendingRunsFile(),
    ReferencesFile(),
    OwnersFile(),
)
VERSION_FILES = (
    VersionFinishFile(),
    VersionStatusFile(),
    ErrorFile(),
    ManifestFile(),
    DiffFile(),
    VersionMetadataFile(),
    VersionLabelsFile(),
    *VERSION_TEXTS,
    UsedByFile(),
    UpdatedAtFile(),
)
