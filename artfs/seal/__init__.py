"""Turns a pending tree into a version: freeze, ingest, mark, link, commit, publish.

``ingest`` reads the tree, ``commit`` decides, ``recovery`` finishes or undoes what a crash left. Knows the
store, the catalog and the pending tree; no mount, no command line.
"""
