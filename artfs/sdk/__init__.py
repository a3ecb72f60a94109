"""The Python SDK: wandb's names over a volume, mounted or not.

Users see ``artifact``, ``run``, ``api``, ``artifact_collection``, ``artifact_types``, ``registries``,
``run_record``, ``run_values`` and ``media``; the functions of the package are in ``run_init`` and
``functions``. An artifact is one ``artifact_state``, with ``artifact_labels`` and, until it is saved, a draft
(``artifact_draft``, ``draft_files``). All of it uses :class:`~artfs.client.interface.Client`, and knows
neither a mount nor the terminal's libraries. :mod:`artfs` names what is public.
"""
