"""What a program does with a volume, whether it is mounted or not.

:class:`~artfs.client.interface.Client` is the interface. `direct/` implements it on the volume itself, and
`mounted/` by the files of a mount. :func:`~artfs.client.open.open_client` chooses. Must not know FUSE or
a terminal.
"""
