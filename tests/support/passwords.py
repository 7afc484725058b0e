"""Passwords of tests are hashed as in life, with the least work: hundreds of them sign in."""

from django.contrib.auth.hashers import ScryptPasswordHasher


class QuickScrypt(ScryptPasswordHasher):
    work_factor = 2**4
