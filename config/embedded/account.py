"""The account that the servers run as: our own, or an unprivileged one when we are root.

PostgreSQL refuses to run as root, and initdb wants an account with a passwd entry.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PREFERRED = ("postgres", "answerable")


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int


def choose_account(data_folders: Iterable[Path]) -> Account:
    """Return ourselves, or when we are root: the data's owner, else a known service user, else one made for us.

    The owner first, so that data keep their user when a `postgres` account appears on the machine later.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    entry = _owner(data_folders) or _named(*PREFERRED) or _made("answerable") or pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def hand_over(folder: Path, account: Account) -> None:
    """Give our own `folder`, and what is in it, to `account`; does nothing if it has it already."""
    if folder.lstat().st_uid == account.uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(parent, name), account.uid, account.gid, follow_symlinks=False)
    os.chown(folder, account.uid, account.gid, follow_symlinks=False)  # last: a crash half way is repeated


def _owner(folders: Iterable[Path]) -> pwd.struct_passwd | None:
    for folder in folders:
        # Root owns data only where someone copied them back as root.
        if folder.is_dir() and (uid := folder.lstat().st_uid) != 0:
            try:
                return pwd.getpwuid(uid)
            except KeyError:
                continue
    return None


def _named(*names: str) -> pwd.struct_passwd | None:
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry
    return None


def _made(name: str) -> pwd.struct_passwd | None:
    if useradd := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, capture_output=True, check=False)  # read-only /etc: nobody will do
    return _named(name)
