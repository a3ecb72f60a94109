"""The FUSE side of a mount: the only room that knows pyfuse3, trio and errnos."""
