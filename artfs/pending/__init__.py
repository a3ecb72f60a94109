"""The writable tree of one distributed id: its state on disk, its nodes, and who has what open.

Owns ``collections/NAME/pending/ID/`` of a volume. Knows the store's durable writes, but neither versions
nor aliases nor anything about FUSE.
"""
