"""CloudTrail's digest files as AWS makes them: named, linked and signed as its "CloudTrail digest file structure" and "Custom
implementations of CloudTrail log file integrity validation" say (docs.aws.amazon.com, read 2026-11).
"""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from auditlog.core.wire.keys import b64url

AWS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_NUMBERS = AWS.public_key().public_numbers()
FINGERPRINT = "31e8b5433410dfb61a9dc45cc65b22ff"
AWS_JWK = {
    "kty": "RSA",
    "kid": FINGERPRINT,
    "n": b64url(_NUMBERS.n.to_bytes(256, "big")),
    "e": b64url(_NUMBERS.e.to_bytes(3, "big")),
}
STARTED = datetime(2026, 11, 20, 21, 1, 31, tzinfo=UTC)


def digest_name(hour: int, *, trail: str = "trail", kind: str = "") -> str:
    """The S3 object of the digest file that ends `hour` hours after STARTED."""
    end = STARTED + timedelta(hours=hour)
    folder = f"AWSLogs/111122223333/CloudTrail-Digest/us-east-2/{end:%Y/%m/%d}"
    return f"{folder}/111122223333_CloudTrail-Digest_us-east-2_{trail}_us-east-2_{end:%Y%m%dT%H%M%SZ}{kind}.json.gz"


def digest_bundle(
    logs: dict[str, str] | None = None,
    *,
    posted: dict[str, str] | None = None,
    hour: int = 1,
    first: bool = False,
    trail: str = "trail",
    kind: str = "",
    **digest,
):
    """The digest file of an hour as it is posted, with the log files that it names (of them `posted`). `first`: of its chain."""
    logs, end = logs or {}, STARTED + timedelta(hours=hour)
    before = None if first else digest_name(hour - 1, trail=trail, kind=kind)
    said = {
        "awsAccountId": "111122223333", "digestStartTime": f"{end - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "digestEndTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "digestS3Bucket": "b", "digestS3Object": digest_name(hour, trail=trail, kind=kind), "digestPublicKeyFingerprint": FINGERPRINT,
        "digestSignatureAlgorithm": "SHA256withRSA", "previousDigestS3Bucket": before and "b", "previousDigestS3Object": before,
        "previousDigestHashValue": before and "cd" * 32, "previousDigestHashAlgorithm": before and "SHA-256", "previousDigestSignature": before and "ab" * 256,
        "logFiles": [{"s3Bucket": "b", "s3Object": name, "hashValue": sha256(text.encode()).hexdigest(), "hashAlgorithm": "SHA-256"} for name, text in logs.items()],
    } | digest  # fmt: skip
    text = json.dumps(said)
    string = f"{said['digestEndTime']}\nb/{said['digestS3Object']}\n{sha256(text.encode()).hexdigest()}\n{said['previousDigestSignature'] or 'null'}"
    signature = AWS.sign(string.encode(), padding.PKCS1v15(), hashes.SHA256()).hex()
    return {"digest": text, "signature": signature, "logs": logs if posted is None else posted}
