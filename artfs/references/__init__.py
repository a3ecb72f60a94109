"""Bytes that live elsewhere: what is at a URI, the same bytes again later, and a bounded cache of them.

It knows URIs, sizes and checksums, but neither versions nor pending trees nor FUSE. Everything here blocks
and may be called from any thread. boto3 serves S3, obstore the other object stores and http; both are
imported when they are first needed.
"""

from artfs.references.local_files import LocalFile
from artfs.references.remote_store import Timeouts
from artfs.references.resolver import Resolver
from artfs.references.single_flight import THIS_PROCESS, Requester
from artfs.references.uris import SCHEMES, FoundObject

__all__ = ["SCHEMES", "THIS_PROCESS", "FoundObject", "LocalFile", "Requester", "Resolver", "Timeouts"]
