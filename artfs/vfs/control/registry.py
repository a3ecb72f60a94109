"""Which control files stand where: the one list of them."""

from __future__ import annotations

from artfs.vfs.control.about import Readme
from artfs.vfs.control.base import Base, Link
from artfs.vfs.control.changes import Changes, Diff
from artfs.vfs.control.discard import Discard
from artfs.vfs.control.error import Error
from artfs.vfs.control.finish import PendingFinish, VersionFinish
from artfs.vfs.control.labels import PendingLabels, VersionLabels
from artfs.vfs.control.manifest import Manifest
from artfs.vfs.control.metadata import PendingMetadata, VersionMetadata
from artfs.vfs.control.metrics import Metrics
from artfs.vfs.control.owners import PendingOwners
from artfs.vfs.control.references import PendingReferences
from artfs.vfs.control.runs import PendingRuns, RunsDirectory, UsedBy
from artfs.vfs.control.status import PendingStatus, UpdatedAt, VersionStatus, VolumeStatus
from artfs.vfs.control.texts import (
    CollectionDescription,
    CollectionScope,
    CollectionTags,
    CollectionTtl,
    PendingAliases,
    PendingDescription,
    PendingTags,
    Type,
    VersionAliases,
    VersionDescription,
    VersionTags,
    VersionTtl,
)
from artfs.vfs.control.versions import Versions

VOLUME_FILES = (Readme(), VolumeStatus(), Metrics(), RunsDirectory(), Error())
COLLECTION_FILES = (
    Type(),
    CollectionDescription(),
    CollectionTags(),
    CollectionTtl(),
    CollectionScope(),
    Versions(),
    Error(),
)
PENDING_FILES = (
    PendingFinish(),
    Discard(),
    PendingStatus(),
    Error(),
    Base(),
    Link(),
    Changes(),
    PendingAliases(),
    PendingTags(),
    PendingDescription(),
    PendingMetadata(),
    PendingLabels(),
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
    VersionAliases(),
    VersionTags(),
    VersionDescription(),
    VersionMetadata(),
    VersionLabels(),
    VersionTtl(),
    UsedBy(),
    UpdatedAt(),
)
