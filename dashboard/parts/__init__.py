"""What several pages share: who may see one, how lists are read, fields of forms, the card of a chain."""
