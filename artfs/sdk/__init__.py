"""The Python SDK: wandb's names over a volume, mounted or not.

``artifact``, ``run``, ``api``, ``collections``, ``registry``, ``config`` and ``summary`` have what users see,
``begin`` and ``functions`` the module's functions; ``core``, ``adding`` and ``reading`` are the parts of
an artifact; ``draft`` is what it writes to. All of it goes by :class:`~artfs.client.interface.Client`, and
knows neither a mount nor the terminal's libraries. What is public is named by :mod:`artfs`.
"""
