"""The next operation of a process of the kill torture: it must succeed if nothing is killed."""

from __future__ import annotations

import random

from tests.torture.model import DIRECTORY, File, Mine, Op, Tree, World, below, parent

SIZES = (1, 40, 4096, 5000, 70_000, 300_000)
MOST_ENTRIES, MOST_BYTES = 30, 2_000_000
TAGS = ("good", "bad", "old", "new")
ALIASES = ("best", "stable", "prod")


class Chooser:
    """Chooses by a seed: system calls if ``mounted``, else operations without a mount."""

    def __init__(self, seed: str, mine: Mine, *, mounted: bool) -> None:
        self.random, self.mine, self.mounted = random.Random(seed), mine, mounted

    def next(self, team_id: str | None) -> Op:
        """Returns the next operation; `team_id` is the id that all processes fill now."""
        rng = self.random
        if rng.random() < 0.3:
            op = self._in_team(team_id)
            if op is not None:
                return {"where": "team", **op}
        return {"where": "own", **self._own()}

    def _in_team(self, name: str | None) -> Op | None:
        mine, rng = self.mine, self.random
        if name is None:
            return {"do": "start", "id": f"team-{len(mine.team_ids)}"} if mine.number == 0 else None
        if mine.number == 0 and rng.random() < 0.15:
            return {"do": "finish", "id": name}
        if not self.mounted:
            return {"id": name, **self._put(mine.team.get(name, {}))}
        if name not in mine.team:
            return {"do": "part", "id": name}
        return {"id": name, **self._change(mine.team[name], team=True)}

    def _own(self) -> Op:
        world, rng = self.mine.own, self.random
        if not world.pending or (len(world.pending) < 3 and rng.random() < 0.05):
            return {"do": "start", "id": f"job-{world.started}"}
        if rng.random() < 0.2 and (op := self._about_versions(world)):
            return op
        name = rng.choice(sorted(world.pending))
        tree = world.pending[name]
        if name in world.untouched and self.mounted and (newest := world.newest()) and rng.random() < 0.5:
            return {"do": "base", "id": name, "version": newest}
        chance = rng.random()
        if chance < 0.07:
            aliases = rng.sample(ALIASES, rng.randrange(3))
            return {"do": "finish", "id": name, "aliases": aliases, "force": rng.random() < 0.3}
        if chance < 0.09:
            return {"do": "discard", "id": name}
        return {"id": name, **(self._change(tree) if self.mounted else self._put(tree))}

    def _about_versions(self, world: World) -> Op | None:
        rng = self.random
        if not world.versions:
            return None
        version = rng.choice(sorted(world.versions))
        free = sorted(set(world.versions) - set(world.aliases.values()))
        if free and (len(world.versions) > 4 or rng.random() < 0.2):
            return {"do": "delete", "version": rng.choice(free)}
        chance = rng.random()
        if chance < 0.4:
            return {"do": "alias", "alias": rng.choice(ALIASES), "version": version}
        if chance < 0.55 and world.aliases:
            return {"do": "unalias", "alias": rng.choice(sorted(world.aliases))}
        if chance < 0.7 and world.ids:
            return {"do": "again", "id": rng.choice(sorted(world.ids)), "alias": rng.choice(ALIASES)}
        if chance < 0.75 and not self.mounted:
            return {"do": "gc"}
        return {"do": "tag", "version": version, "tags": sorted(rng.sample(TAGS, 2))}

    def _put(self, tree: Tree) -> Op:
        """Adds whole files in one directory that exists or can be made."""
        rng = self.random
        above = rng.choice(["", "put", *sorted(p for p, node in tree.items() if node == DIRECTORY)])
        if above and tree.get(above, DIRECTORY) != DIRECTORY:
            above = ""
        files = {}
        for _ in range(rng.randrange(1, 6)):
            path = f"{above}/f{rng.randrange(12)}".lstrip("/")
            if isinstance(tree.get(path, None), (File, type(None))):
                files[path] = (rng.getrandbits(32), rng.choice(SIZES[:5]))
        return {"do": "put", "files": files}

    def _change(self, tree: Tree, *, team: bool = False) -> Op:
        rng = self.random
        files = sorted(path for path, node in tree.items() if isinstance(node, File))
        size = sum(len(node.data) for node in tree.values() if isinstance(node, File))
        full = len(tree) >= MOST_ENTRIES or size > MOST_BYTES
        if full or (tree and rng.random() < 0.08):
            return self._removal(tree)
        chance = rng.random()
        if not files or chance < 0.22:
            return {"do": rng.choice(["create", "create", "create", "mkdir"]), "path": self._new(tree)}
        path = rng.choice(files)
        node = tree[path]
        assert isinstance(node, File)
        data = {"seed": rng.getrandbits(32), "size": rng.choice(SIZES)}
        if chance < 0.45:
            return {"do": "append", "path": path, **data}
        if chance < 0.60:
            return {"do": "write", "path": path, "offset": rng.randrange(len(node.data) + 10), **data}
        if chance < 0.65 and len(node.data) > 10 and not team:
            offset = rng.randrange(len(node.data) - 1)
            data["size"] = min(data["size"], len(node.data) - offset)
            return {"do": "store", "path": path, "offset": offset, **data}
        if chance < 0.70:
            return {"do": "truncate", "path": path, "size": rng.choice([0, len(node.data) // 2, 6000])}
        if chance < 0.76:
            return {"do": "chmod", "path": path, "mode": rng.choice([0o644, 0o755, 0o600])}
        if chance < 0.80:
            return {"do": "xattr", "path": path, "name": "user.note", "value": str(rng.random())}
        if chance < 0.84:
            return {"do": "fsync", "path": path}
        if chance < 0.89:
            return {"do": "link", "path": path, "to": self._new(tree)}
        if chance < 0.91:
            return {"do": "symlink", "path": self._new(tree), "target": rng.choice(files)}
        return self._rename(tree, files)

    def _rename(self, tree: Tree, files: list[str]) -> Op:
        rng = self.random
        old = rng.choice(sorted(tree))
        over = [path for path in files if path != old]
        if tree[old] != DIRECTORY and over and rng.random() < 0.6:
            return {"do": "rename", "path": old, "to": rng.choice(over)}
        new = self._new(tree)
        if new.startswith(old + "/"):
            new = new.rpartition("/")[2] + "-moved"
        if new in tree:
            return {"do": "fsync", "path": files[0]}
        return {"do": "rename", "path": old, "to": new}

    def _removal(self, tree: Tree) -> Op:
        path = self.random.choice(sorted(path for path in tree if not below(tree, path)))
        return {"do": "rmdir" if tree[path] == DIRECTORY else "unlink", "path": path}

    def _new(self, tree: Tree) -> str:
        rng = self.random
        above = rng.choice(["", *sorted(path for path, node in tree.items() if node == DIRECTORY)])
        if above.count("/") > 3:
            above = parent(above)
        while True:
            path = f"{above}/n{rng.randrange(1000)}".lstrip("/")
            if path not in tree:
                return path
