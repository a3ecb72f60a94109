"""Pure values: digests and ids, names, the entries of a directory, and directories as trees of pages.

No module here does I/O, knows a store, or holds a lock: any thread may call all of it. Where bytes come
from and go to is passed in as functions. The bytes themselves are described in ``artfs/store/FORMAT.md``.
"""
