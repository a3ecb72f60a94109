"""Which control files stand where: the one list of them."""

from __future__ import annotations

from artfs.view.control.about import Readme
from artfs.view.control.base import Base, Link
from artfs.view.control.changes import Changes, Diff
from artfs.view.control.discard import Discard
from artfs.view.control.error import Error
from artfs.view.control.finish import PendingFinish, VersionFinish
from artfs.view.control.labels import PendingLabels, VersionLabels
from artfs.view.control.manifest import Manifest
from artfs.view.control.metadata import PendingMetadata, VersionMetadata
from artfs.view.control.metrics import Metrics
from artfs.view.control.owners import PendingOwners
from artfs.view.control.references import PendingReferences
from artfs.view.control.runs import PendingRuns, RunsDirectory, UsedBy
from artfs.view.control.status import PendingStatus, UpdatedAt, VersionStatus, VolumeStatus
from artfs.view.control.texts import (
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
from artfs.view.control.versions import Versions

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
