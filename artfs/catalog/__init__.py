"""The catalog: collections, versions, aliases, notes and runs, as small files that ``cat`` can show.

Every step that decides something is one of two primitives of ``store.durable``: create-if-absent and
replace-if-unchanged. Nothing here relies on what one process remembers: what is cached is compared with
the file's identity before it is believed.
"""
