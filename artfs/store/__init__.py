"""Durable bytes: objects, layout, locks, check and gc of a volume.

Everything here blocks and may be called from any thread. It knows digests and tree pages, but no
collections, versions or pending trees: callers pass roots, labels and directory descriptors.
"""
