"""What a mount shows, as nodes that know nothing of FUSE: directories, files, links, control files.

``node`` is the protocol. ``catalog_nodes`` has the directories above the trees, ``sealed`` the nodes of
versions, ``pending_*`` those of pending trees, ``patch_*`` those of patches, ``control`` a module for each
control file.
"""
