"""No published sample is left out: of each folder, which files there are, and that a test of the format reads them.

The tests of the formats say what each means. A sample that is added to the folders, and to no test, is noticed here.
"""

import json
import re
from pathlib import Path

import pytest

from tests import vectors

HERE = Path(__file__).parent
# By folder: the tests that read it, and how. "*" are those that read whatever lies there.
READ = {
    "stripe": ("test_stripe_format", ["fixtures3", "fixtures3.private_preview"]),
    "auth0": ("test_auth0_format", [
        "failed_on_behalf_of_token_exchange.schema", "fecte.schema", "idjag_exchange_succeeded.schema", "jwt_bearer_exchange_failed.schema",
        "limit_delegation.schema", "secte.schema", "success_on_behalf_of_token_exchange.schema"]),
    "acp": ("test_acp_format", ["digital-fulfillment", "examples.delegate_payment", "partial-fulfillment", "refunded-order", "shipped-order",
                                "simple-order"]),
    "ap2": ("test_ap2_format", ["checkout_mandate", "checkout_receipt", "open_checkout_mandate", "open_payment_mandate", "payment_mandate",
                                "payment_receipt"]),
    "ap2/types": ("test_ap2_format", "*"),
    "cloudevents": ("test_cloudevents_format", ["cloudevents.schema"]),
    "http-signatures": ("test_http_signatures_format", ["web_bot_auth_architecture_v1", "web_bot_auth_architecture_v2"]),
    "ocsf": ("test_ocsf_format", ["account_change", "api_activity", "authentication"]),
    "peac/agent-identity": ("test_peac_format", ["edge-cases", "invalid", "invalid-actor-binding", "valid", "valid-actor-binding"]),
    "peac/provisioning-lifecycle": ("test_peac_format", "*"),
    "peac/agent-provisioning-demo": ("test_projects_cli_format", [
        "cli-add-response", "cli-llm-context-response", "cli-rotate-response", "env-keys", "meta", "state-after-add", "state-after-init"]),
    "peac/paymentauth": ("test_mpp_format", [
        "edge-receipt-extra-fields", "edge-unknown-method", "invalid-missing-challenge-id", "invalid-missing-scheme",
        "invalid-receipt-not-json", "invalid-truncated-base64", "security-oversized-header", "valid-challenge-parse",
        "valid-credential-parse", "valid-receipt-mapping"]),
    "peac/stripe": ("test_stripe_format", "*"),
    "peac/x402": ("test_x402_format", "*"),
}  # fmt: skip
# What belongs to no format: log entries' proofs, canonical JSON, signatures, an export's rows. Other tests read them.
OTHERS = {"merkle", "jcs", "wycheproof", "focus"}


@pytest.mark.parametrize("folder", READ)
def test_every_published_sample_is_read_by_a_test_of_its_format(folder):
    module, names = READ[folder]
    there = {file.stem for file in vectors.files(f"{folder}/*.json")} - {"manifest"}
    text = (HERE / f"{module}.py").read_text()

    assert there
    if names == "*":
        assert re.search(rf"vectors\.files\(\"{folder}/[^\"]*\*[^\"]*json\"\)", text)
    else:
        assert there == set(names)
        assert [
            name for name in names if name.removesuffix(".schema") not in text and name.rpartition("_")[0] not in text
        ] == []


def test_every_folder_of_published_samples_is_known():
    folders = {str(file.parent.relative_to(vectors.FOLDER)) for file in vectors.files("**/*.json")}

    assert {f for f in folders if f.partition("/")[0] not in OTHERS} == READ.keys()


@pytest.mark.parametrize("folder", ["peac/stripe", "peac/paymentauth", "peac/x402"])
def test_a_manifest_names_the_very_files_that_are_read(folder):
    manifest = vectors.read(f"{folder}/manifest.json")
    named = {name for category in manifest["categories"].values() for name in category["vectors"]}

    assert named == {file.name for file in vectors.files(f"{folder}/*.json")} - {"manifest.json"}
    for name in named:
        json.loads((vectors.FOLDER / folder / name).read_text())
