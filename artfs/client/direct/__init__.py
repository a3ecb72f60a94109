"""A volume used directly, without a mount."""
