"""What systemd needs of a mount, and later Docker and podman: files for them and their small protocols.

Knows nothing of volumes and mounts.
"""
