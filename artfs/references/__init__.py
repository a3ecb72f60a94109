"""Bytes that live elsewhere: what is at a URI, the same bytes again later, and a bounded cache of them.

It knows URIs, sizes and checksums, but neither versions nor pending trees nor FUSE. Everything here blocks
and may be called from any thread. S3 goes through boto3, other object stores and http through obstore, which
are imported when they are first needed.

::

    remotes   Remotes: the door; which bytes are fetched, which are taken from the cache
    uris      how URIs are spelled, and what a look at one tells
    local     file://, and mounts: which filesystems it may lead to
    objects   object stores and http: which store serves a URI, what is below it, how it is brought
    answers   what servers answer, whichever library asks them
    by_boto3, by_obstore    the libraries
    asker     who wants it, and whether he still does
    cache     whole objects in one directory
    flights   work that many want at once, done once
"""

from artfs.references.asker import OURSELVES, Asker
from artfs.references.local_files import LocalFile
from artfs.references.remote_store import Timeouts
from artfs.references.resolver import Resolver
from artfs.references.uris import SCHEMES, FoundObject

__all__ = ["OURSELVES", "SCHEMES", "Asker", "FoundObject", "LocalFile", "Resolver", "Timeouts"]
