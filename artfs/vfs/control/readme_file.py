"""`README` of the volume: how to use this mount, in a page."""

from __future__ import annotations

from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.subject import VolumeSubject

_TEXT = """\
This directory is an artfs mount: named collections of immutable versions, made with plain files.

  mkdir model                                make a collection
  mkdir model/pending/job-42                 start a version; job-42 is its distributed id
  cp -r out/. model/pending/job-42/          any number of processes write files there
  echo best > model/pending/job-42/.artfs/finish
                                             turn it into model/v0, read-only for good; best -> v0
  cat model/best/weights.bin                 read it
  cat model/v0/.artfs/status                 what it is: digest, size, aliases, runs (JSON)
  cat model/v0/.artfs/manifest.json          every entry of it with its digest (JSON)
  echo 'big.bin s3://bucket/big.bin' > model/pending/job-42/.artfs/references
                                             a file whose bytes stay where they are

  ln -sfn v0 model/best ; rm model/best      move or remove an alias
  rmdir model/v0                             delete a version as a whole
  cat model/pending/job-42/.artfs/status     the state of a pending version, and who has files open
  cat model/pending/job-42/.artfs/error      why the last command was refused
  echo > model/pending/job-42/.artfs/discard delete a pending version

In a line of aliases or tags %20 is a blank: `echo epoch%203 > finish`, like `ln -s v0 'epoch 3'`.
Options of `finish`: --wait=SECONDS waits for open files, --force seals without them.
`.artfs` is found by name and never listed. `artfs --help` is the command line over the same mount.
"""


class ReadmeFile(ControlFile[VolumeSubject]):
    name = "README"

    def read(self, subject: VolumeSubject) -> str:
        return _TEXT
