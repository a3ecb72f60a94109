"""What the standard library lacks of the kernel: system calls, mountinfo, walks by descriptors."""
