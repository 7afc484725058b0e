"""Our notes and proofs, checked by the Go team's own packages where Debian has installed them; skipped elsewhere."""

import json
import os
import random
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from auditlog.core.log import merkle
from auditlog.core.log.checkpoint import Checkpoint, opened, public_key_of, signed, vkey
from auditlog.verifier import answerable_verify as verifier
from tests.support.needs import cannot

MODULES = Path("/usr/share/gocode")  # of golang-golang-x-mod-dev
PACKAGES = ("golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog")
KEY = SigningKey(b"\x07" * 32)
ORIGIN = "answerable.example/log/default"

PROGRAM = """
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Vkey, Note      string
	Old, Size, Leaf int64
	OldRoot, Root   tlog.Hash
	Data            []byte
	Record, Tree    []tlog.Hash
}

func main() {
	for decoder := json.NewDecoder(os.Stdin); decoder.More(); {
		var q question
		if err := decoder.Decode(&q); err != nil {
			panic(err)
		}
		if q.Note != "" {
			verifier, err := note.NewVerifier(q.Vkey)
			if err == nil {
				_, err = note.Open([]byte(q.Note), note.VerifierList(verifier))
			}
			fmt.Println(err == nil)
		} else if q.Data != nil {
			fmt.Println(tlog.CheckRecord(q.Record, q.Size, q.Root, q.Leaf, tlog.RecordHash(q.Data)) == nil)
		} else {
			fmt.Println(tlog.CheckTree(q.Tree, q.Size, q.Root, q.Old, q.OldRoot) == nil)
		}
	}
}
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Puts questions to the Go program, all at once; a list of booleans comes back."""
    go = shutil.which("go")
    if go is None or not all((MODULES / "src" / package).is_dir() for package in PACKAGES):
        cannot("go", "needs Go and its x/mod packages: golang-go and golang-golang-x-mod-dev of Debian")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(PROGRAM)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOPATH": str(MODULES), "GO111MODULE": "off", "GOFLAGS": "",
        "GOCACHE": str(folder / "cache"), "GOPROXY": "off",
    }  # fmt: skip
    built = subprocess.run(
        [go, "build", "-o", "ask", "main.go"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr

    def put(questions):
        text = "\n".join(json.dumps(question) for question in questions)
        answer = subprocess.run([folder / "ask"], input=text, capture_output=True, text=True, timeout=120, check=True)
        return [line == "true" for line in answer.stdout.split()]

    return put


def b64(value):
    return b64encode(value).decode()


class Log:
    def __init__(self, size, seed=1):
        rng = random.Random(seed)
        self.data = [rng.randbytes(30) for _ in range(size)]
        self.hashed = [merkle.leaf_hash(data) for data in self.data]
        self.memo = {}

    def node(self, level, index):
        key = level, index
        if key not in self.memo:
            if level == 0:
                self.memo[key] = self.hashed[index]
            else:
                self.memo[key] = merkle.node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
        return self.memo[key]

    def root(self, size):
        return merkle.EMPTY.extended(self.hashed[:size]).root()

    def record(self, index, size, path=None):
        path = merkle.inclusion_proof(index, size, self.node) if path is None else path
        return {
            "Size": size, "Root": b64(self.root(size)), "Leaf": index, "Data": b64(self.data[index]),
            "Record": [b64(part) for part in path],
        }  # fmt: skip

    def tree(self, old, size, path=None):
        path = merkle.consistency_proof(old, size, self.node) if path is None else path
        return {
            "Size": size, "Root": b64(self.root(size)), "Old": old, "OldRoot": b64(self.root(old)),
            "Tree": [b64(part) for part in path],
        }  # fmt: skip


def test_go_opens_our_checkpoints_and_refuses_changed_ones(ask):
    note, key = signed(Checkpoint(ORIGIN, 300, b"\x05" * 32), KEY), vkey(ORIGIN, bytes(KEY.verify_key))
    spoiled = [
        note.replace("300", "301"),
        note.replace("\n\n", "\n"),
        note[:-1],
        note[:-3] + "A=\n",
        note.replace(ORIGIN, "other", 1),
    ]
    other = vkey(ORIGIN, bytes(SigningKey(b"\x01" * 32).verify_key))

    assert ask([{"Note": note, "Vkey": key}, {"Note": note, "Vkey": other}]) == [True, False]
    answers = ask([{"Note": one, "Vkey": key} for one in spoiled])
    for one, by_go in zip(spoiled, answers, strict=True):
        assert by_go is False or one.startswith("other"), (
            one
        )  # a note may say anything; that it is our log is our check
        if one.endswith("\n"):  # `opened` reads notes of our own making, and does not mind a lost last newline
            with pytest.raises(ValueError):
                opened(one, origin=ORIGIN, public_key=public_key_of(key)[1])
        with pytest.raises(ValueError):
            verifier.open_note(one, [verifier.parse_vkey(key)])


def test_go_checks_our_inclusion_proofs_and_agrees_on_wrong_ones(ask):
    log, rng, questions, ours = Log(300), random.Random(2), [], []
    for size in [*range(1, 70), 127, 128, 129, 255, 256, 257, 299, 300]:
        for index in {0, size - 1, rng.randrange(size)}:
            path = merkle.inclusion_proof(index, size, log.node)
            for candidate in (path, path[1:], [*path, log.hashed[0]], path[::-1]):
                questions.append(log.record(index, size, candidate))
                try:
                    root = verifier.root_from_inclusion(index, size, log.hashed[index], candidate)
                except ValueError:
                    root = None
                ours.append(root == log.root(size))

    answers = ask(questions)

    assert answers == ours and answers.count(True) >= 200 and answers.count(False) >= 400


def test_go_checks_our_consistency_proofs_and_agrees_on_wrong_ones(ask):
    log, rng, questions, ours = Log(300), random.Random(3), [], []
    for size in [*range(1, 70), 127, 128, 129, 255, 256, 257, 299, 300]:
        for old in {1, size, size - 1 or 1, rng.randrange(1, size + 1)}:
            path = merkle.consistency_proof(old, size, log.node)
            for candidate in (path, path[1:], [*path, log.hashed[0]], path[::-1]):
                questions.append(log.tree(old, size, candidate))
                try:
                    verifier.check_consistency(old, size, log.root(old), log.root(size), candidate)
                    ours.append(True)
                except ValueError:
                    ours.append(False)

    answers = ask(questions)

    assert answers == ours and answers.count(True) >= 200 and answers.count(False) >= 400
