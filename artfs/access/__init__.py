"""What a program does with a volume, whether it is mounted or not.

:class:`~artfs.access.access.Access` is the interface; :mod:`~artfs.access.direct` does it on the volume
itself, :mod:`~artfs.access.mounted` by nothing but files of a mount.
:func:`artfs.access.open.open_access` chooses. Must not know what a terminal is, nor FUSE.
"""
