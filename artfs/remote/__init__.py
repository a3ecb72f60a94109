"""Bytes that live elsewhere: what is at a URI, the same bytes again later, and a bounded cache of them.

It knows URIs, sizes and checksums, but neither versions nor pending trees nor FUSE. Everything here blocks
and may be called from any thread. Object stores and http go through obstore, which is imported when it is
first needed.

::

    remotes   Remotes: the door; which bytes are fetched, which are taken from the cache
    uris      how URIs are spelled, and what a look at one tells
    local     file://, and mounts: which filesystems it may lead to
    objects   object stores and http, over obstore
    asker     who wants it, and whether he still does
    cache     whole objects in one directory
    flights   work that many want at once, done once
"""

from artfs.remote.asker import OURSELVES, Asker
from artfs.remote.local import LocalFile
from artfs.remote.objects import Patience
from artfs.remote.remotes import Remotes
from artfs.remote.uris import SCHEMES, Found

__all__ = ["OURSELVES", "SCHEMES", "Asker", "Found", "LocalFile", "Patience", "Remotes"]
