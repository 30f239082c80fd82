"""What the system says: /proc of a process, ELF files. Standard library only."""
