"""What every process of ours needs once Django has loaded."""

import gc

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        """A batch makes thousands of short-lived objects and few cycles: the collector waits longer, and what was
        loaded is not walked again (a sixth of the projector's Python).
        """
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)
