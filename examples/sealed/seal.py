"""Seals what only one phone shall read: `python seal.py < job.json`.

Reads {"service_key", "device_key", "kid", "call": {...}, "platform"} from
standard input and prints the device's `sealed` for an event. Keys are base64:
the service's secret key, the device's public one.
"""

import base64
import json
import sys

from nacl.public import Box, PrivateKey, PublicKey

# What a payload holds beside `kid` and `ct`; see docs/profiles.md, "Privacy".
BUDGET = {"ios": 5004, "android": 4004}
# Every ciphertext is as long as one of a few lengths, so that its length says
# nothing about the caller's name.
BLOCK = 256


def seal(service: PrivateKey, device: PublicKey, kid: str, call: dict, platform: str) -> dict:
    """Encrypts a call for one device, so that it can prove who sent it.

    Raises ValueError if no push could carry the result.
    """
    plain = json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode()
    # Spaces at the end of JSON change nothing.
    plain += b" " * (-len(plain) % BLOCK)
    # nonce (24 bytes, random), authenticator (16), ciphertext
    ct = base64.b64encode(Box(service, device).encrypt(plain)).decode()
    size, budget = len(kid) + len(ct), BUDGET[platform]
    if size > budget:
        raise ValueError(f"kid and ct have {size} bytes, {size - budget} more than {platform} takes")
    return {"kid": kid, "ct": ct}


def main() -> None:
    job = json.load(sys.stdin)
    service = PrivateKey(base64.b64decode(job["service_key"]))
    device = PublicKey(base64.b64decode(job["device_key"]))
    json.dump(seal(service, device, job["kid"], job["call"], job["platform"]), sys.stdout)


if __name__ == "__main__":
    main()
