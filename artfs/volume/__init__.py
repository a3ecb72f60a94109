"""A volume as a whole, without a mount."""
