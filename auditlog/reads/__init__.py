"""Every read of the record, by noun, and what a viewer may see of it."""
