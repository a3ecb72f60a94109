"""What a mount shows, as nodes that know nothing of FUSE: directories, files, links, control files.

``node`` is the protocol; ``volume``, ``pending`` and ``sealed`` are the trees; ``control`` has a module for
each kind of control file.
"""
