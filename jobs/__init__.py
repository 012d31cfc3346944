"""What a person starts: one file a command; `python -m jobs` is the command line."""

__version__ = "0.1.0"
