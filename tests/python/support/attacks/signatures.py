"""Attacks on the signature itself: numbers that sign nothing, other forms, another algorithm of the same key."""

from collections.abc import Iterator

from cryptography.hazmat.primitives.hashes import SHA384, SHA512

from support.attacks.attack import Attack, SceneSign, by, eddsa_by, es256_by, for_django
from support.forging import ED25519_ORDER, P256_ORDER, Scene, hmac_by, sha256

PSYCHIC: dict[str, tuple[int, int]] = {
    "r=0 s=0": (0, 0),
    "r=0 s=1": (0, 1),
    "r=1 s=0": (1, 0),
    "r=1 s=1": (1, 1),
    "r=n s=n": (P256_ORDER, P256_ORDER),
    "r=n s=1": (P256_ORDER, 1),
    "r=1 s=n": (1, P256_ORDER),
    "r=n+1 s=1": (P256_ORDER + 1, 1),
    "r and s at their most": (2**256 - 1, 2**256 - 1),
}
"""CVE-2022-21449 and its kin."""

P256: dict[str, SceneSign] = {
    "ES256 in DER": lambda scene, message: scene.honest.es_der(message),
    "ES256 with a byte more": lambda scene, message: scene.honest.es(message) + b"\0",
    "ES256 with a byte less": lambda scene, message: scene.honest.es(message)[:-1],
    "ES256 with wide numbers": lambda scene, message: _joined(scene.honest.es_numbers(message), 48),
    "ES256 with numbers exchanged": lambda scene, message: _joined(scene.honest.es_numbers(message)[::-1], 32),
    "ES256 over SHA-384": lambda scene, message: _joined(scene.honest.es_numbers(message, SHA384()), 32),
    "ES256 by nobody": lambda _, __: b"",
    "ES256 by the forger": lambda scene, message: scene.forger.es(message),
    "RS256's signature under ES256": lambda scene, message: scene.honest.rs()(message),
}

RSA: dict[str, SceneSign] = {
    "PS256's signature under RS256": lambda scene, message: scene.honest.ps(message),
    "RS384's signature under RS256": lambda scene, message: scene.honest.rs(SHA384())(message),
    "RS512's signature under RS256": lambda scene, message: scene.honest.rs(SHA512())(message),
    "ES256's signature under RS256": lambda scene, message: scene.honest.es(message),
    "RS256 plus the modulus": lambda scene, message: _plus_modulus(scene, message),
    "RS256 with a zero before it": lambda scene, message: b"\0" + scene.honest.rs()(message),
    "RS256 all zero": lambda _, __: bytes(256),
    "RS256 one": lambda _, __: (1).to_bytes(256),
    "a bare digest": lambda _, message: sha256(message),
    "a padded digest": lambda _, message: b"\0\1" + b"\xff" * 221 + b"\0" + sha256(message),
}


def of_p256() -> Iterator[Attack]:
    """RFC 7518 section 3.4."""
    for title, numbers in PSYCHIC.items():
        yield Attack(title, es256_by(_nothing(numbers)), "bad_signature")
    for title, sign in P256.items():
        yield Attack(title, es256_by(sign), "bad_signature")


def _nothing(numbers: tuple[int, int]) -> SceneSign:
    return lambda _, __: _joined(numbers, 32)


def _joined(numbers: tuple[int, ...], width: int) -> bytes:
    return b"".join(number.to_bytes(width) for number in numbers)


def of_rsa() -> Iterator[Attack]:
    """RFC 7518 sections 3.3 and 3.5."""
    for title, sign in RSA.items():
        yield Attack(title, by(sign), "bad_signature")
    yield Attack("PS256 by the RS256 key", by(lambda s, m: s.honest.ps(m), alg="PS256"), "algorithm_not_allowed")


def _plus_modulus(scene: Scene, message: bytes) -> bytes:
    """Equal to the good signature by the modulus; where 256 bytes are too few for it, a byte more is sent."""
    number = int.from_bytes(scene.honest.rs()(message)) + int.from_bytes(scene.honest.rsa_numbers()[0])
    return number.to_bytes(256 if number < 2**2048 else 257)


def of_ed25519() -> Iterator[Attack]:
    """RFC 8032 section 5.1.7: S must be below the order, or a signature has two spellings."""
    yield Attack("Ed25519 plus its order", eddsa_by(_plus_order), "bad_signature", "ed")
    yield Attack("Ed25519 all zero", eddsa_by(lambda _, __: bytes(64)), "bad_signature", "ed")
    yield Attack("Ed25519 of the neutral point", eddsa_by(lambda _, __: b"\1" + bytes(63)), "bad_signature", "ed")
    yield Attack("Ed25519 by the forger", eddsa_by(lambda s, m: s.forger.ed_key.sign(m)), "bad_signature", "ed")


def _plus_order(scene: Scene, message: bytes) -> bytes:
    good = scene.honest.ed_key.sign(message)
    return good[:32] + (int.from_bytes(good[32:], "little") + ED25519_ORDER).to_bytes(32, "little")


def of_hmac() -> Iterator[Attack]:
    """RFC 7518 section 3.2: the whole of the hash, and of the one that is named."""
    for size in (0, 1, 16, 31):
        yield Attack(f"HMAC cut to {size} bytes", for_django(_cut(size)), "bad_signature", "django")
    yield Attack("HS512 cut to HS256's length", for_django(_cut(32, "sha512")), "bad_signature", "django")
    longer = for_django(lambda scene, message: _django(scene, message) + b"\0")
    yield Attack("HMAC with a byte more", longer, "bad_signature", "django")
    for bits in (384, 512):
        sharing = for_django(_cut(64, f"sha{bits}"), alg=f"HS{bits}")
        yield Attack(f"HS{bits} by the right secret", sharing, "algorithm_not_allowed", "django")


def _cut(size: int, digest: str = "sha256") -> SceneSign:
    return lambda scene, message: _django(scene, message, digest)[:size]


def _django(scene: Scene, message: bytes, digest: str = "sha256") -> bytes:
    return hmac_by(scene.secret.encode(), digest)(message)
