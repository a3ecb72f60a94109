"""Control files: what stands in the `.artfs` of the volume, a collection, a pending version, a version.

`place` says what such a directory belongs to, `node` is how the kernel sees it, `file` is the protocol of one
control file; every other module is one kind of control file (or a few of one make). `registry` lists which
place has which: a new control file is a new module and a line there.
"""
