"""Which control files each subject has: the only list of them."""

from __future__ import annotations

from artfs.vfs.control.base_file import Base, Link
from artfs.vfs.control.changes_file import Changes, Diff
from artfs.vfs.control.discard_file import Discard
from artfs.vfs.control.error_file import Error
from artfs.vfs.control.finish_file import PendingFinish, VersionFinish
from artfs.vfs.control.labels_file import PendingLabels, VersionLabels
from artfs.vfs.control.manifest_file import Manifest
from artfs.vfs.control.metadata_file import PendingMetadata, VersionMetadata
from artfs.vfs.control.metrics_file import Metrics
from artfs.vfs.control.owners_file import PendingOwners
from artfs.vfs.control.readme_file import Readme
from artfs.vfs.control.references_file import PendingReferences
from artfs.vfs.control.runs_file import PendingRuns, RunsDirectory, UsedBy
from artfs.vfs.control.status_file import PendingStatus, UpdatedAt, VersionStatus, VolumeStatus
from artfs.vfs.control.text_files import COLLECTION_TEXTS, PENDING_TEXTS, VERSION_TEXTS
from artfs.vfs.control.versions_file import Versions

VOLUME_FILES = (Readme(), VolumeStatus(), Metrics(), RunsDirectory(), Error())
COLLECTION_FILES = (*COLLECTION_TEXTS, Versions(), Error())
PENDING_FILES = (
    PendingFinish(),
    Discard(),
    PendingStatus(),
    Error(),
    Base(),
    Link(),
    Changes(),
    PendingMetadata(),
    PendingLabels(),
    *PENDING_TEXTS,
    PendingRuns(),
    PendingReferences(),
    PendingOwners(),
)
VERSION_FILES = (
    VersionFinish(),
    VersionStatus(),
    Error(),
    Manifest(),
    Diff(),
    VersionMetadata(),
    VersionLabels(),
    *VERSION_TEXTS,
    UsedBy(),
    UpdatedAt(),
)
