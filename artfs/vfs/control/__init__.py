"""Control files: what is in the `.artfs` of the volume, of a collection, a pending version and a version.

``subject`` is what such a directory belongs to, ``control_nodes`` how the kernel sees it, ``control_file``
the protocol of one control file, ``file_registry`` the list of the files of each subject. A module ``*_file``
is one kind of control file, or a few similar ones: a new control file is a new module, and a line in the
registry.
"""
