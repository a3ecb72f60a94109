"""Pure values: digests and ids, names, the entries of a directory, and directories as trees of pages.

No module here does I/O, knows a store, or holds a lock: any thread may call all of it. Functions that read
and write bytes are passed in. ``artfs/store/FORMAT.md`` describes the bytes.
"""
