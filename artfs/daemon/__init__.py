"""The life of a daemon: started, supervised, unmounted."""
