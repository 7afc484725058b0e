"""The pages: one file a page family, with its view, what it reads and its forms."""
