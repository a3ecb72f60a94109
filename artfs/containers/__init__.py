"""Files and protocols of the programs that run a mount: systemd. Knows nothing of volumes and mounts."""
