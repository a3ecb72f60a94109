"""A volume used through a mount: by nothing but its files."""
