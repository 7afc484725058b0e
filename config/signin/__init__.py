"""The front door: allauth, made to keep our rules."""
