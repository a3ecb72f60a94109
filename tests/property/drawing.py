"""The arguments of random operations on a directory: names, modes, owners, contents, times."""

from __future__ import annotations

import itertools
import os

from hypothesis import strategies as st

from tests.conformance.driver import When
from tests.property.looking import MOMENTS
from tests.property.patch_rules import AS_ROOT

NAMES = [b"a", b"b", b"c", b"d", b"\xff\xfe odd\n", b"n" * 255, b".artfs-lower", b".artfsx"]
TARGETS = [
    b"a",
    b"b",
    b"a/b",
    b"./d//a",
    b".",
    b"missing",
    b".artfs-",
    b".artfs-link:a",
    b".artfs-stub:644:xxh128:" + b"0" * 32 + b":a",
    b".artfs-lower",
    b".artfs@lower",
    b"t" * 3000,
]
_OWN = 0 if AS_ROOT else 0o700
FILE_MODES = [0o644, 0o600, 0o444, 0o755, 0o000, 0o1777, 0o4755, 0o2755, 0o2644, 0o6711]
# None is sticky and world-writable, where the kernel (fs.protected_*) refuses calls of root too.
DIRECTORY_MODES = [0o755, 0o700, 0o555, 0o000, 0o1755, 0o2775]
OWNERS = [-1, 0, 1, 1000]
CHANGING = [
    os.O_WRONLY,
    os.O_RDWR,
    os.O_WRONLY | os.O_TRUNC,
    os.O_RDONLY | os.O_TRUNC,
    os.O_WRONLY | os.O_APPEND,
]
MAKING = [
    os.O_RDWR | os.O_CREAT,
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
]

names = st.sampled_from(NAMES[:4] * 5 + NAMES[4:] * 2 + [b"n" * 256])
file_modes = st.sampled_from([mode | _OWN for mode in FILE_MODES])
directory_modes = st.sampled_from([mode | _OWN for mode in DIRECTORY_MODES])
owners = st.sampled_from([pair for pair in itertools.product(OWNERS, OWNERS) if pair != (-1, -1)])
contents = st.sampled_from([b"x", b"hello", b"base", b"", b"0123456789" * 20, b"y" * 5000])
sizes = st.sampled_from([0, 1, 5, 10, 4096, 70_001])
offsets = st.sampled_from([0, 0, 3, 10, 5000, 70_000])
times = st.sampled_from([*MOMENTS, When.NOW, When.OMIT])
xattr_names = st.sampled_from([b"user.a", b"user.b", b"user.artfs.run"])
xattr_values = st.sampled_from([b"", b"v", b"value" * 40])
