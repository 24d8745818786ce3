"""Subcommands of udfa-train; each module has `add_to`, which adds its parser and what runs it."""
