"""What a run's config and its summary have in common: they are looked at like a dictionary."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView
from typing import Any


class Items:
    """Values by name. How one is set, read or stored is for whoever derives from this."""

    _items: dict[str, Any]

    def __repr__(self) -> str:
        return repr(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def keys(self) -> KeysView[str]:
        """Returns the names.

        Example:
            >>> list(run.config.keys())
            ['lr']
        """
        return self._items.keys()

    def items(self) -> ItemsView[str, Any]:
        """Returns names and values.

        Example:
            >>> dict(run.config.items())
            {'lr': 0.1}
        """
        return self._items.items()
