"""The published attacks on verifiers of tokens, each with the reason it must be refused for.

Sources: RFC 8725 sections 2 and 3; the lists known as alg=none, algorithm confusion, embedded key, jku and x5u
injection, kid injection, critical-header bypass, psychic signatures, parser differentials and cross-token confusion.
"""

import time
from itertools import chain

from support.attacks import keys, meaning, parsing, signatures
from support.attacks.attack import Attack, claiming, claiming_text, eddsa_by, es256_by, for_django, headed, signed

ATTACKS = tuple(
    chain(
        keys.unsigned(),
        keys.confused(),
        keys.brought_along(),
        keys.kids(),
        parsing.extensions(),
        parsing.ambiguous(),
        parsing.spellings(),
        parsing.nested(),
        parsing.sizes(),
        signatures.of_p256(),
        signatures.of_rsa(),
        signatures.of_ed25519(),
        signatures.of_hmac(),
        meaning.dates(),
        meaning.mistaken(),
        meaning.addressed_elsewhere(),
    )
)

HONEST = (
    Attack("an honest token", signed(), "permitted"),
    Attack("without kid", headed({"alg": "RS256"}), "permitted"),
    Attack("with jku and x5u, which nobody needs", lambda s: signed(jku=s.lure, x5u=s.lure)(s), "permitted"),
    Attack("with a key of its own, which nobody needs", lambda s: signed(jwk=s.forger.jwk("mine"))(s), "permitted"),
    Attack("with b64 as it is anyway", signed(b64=True), "permitted"),
    Attack("by ES256", es256_by(lambda s, m: s.honest.es(m)), "permitted"),
    Attack("with a fraction of a second", lambda s: claiming(exp=time.time() + 60.25)(s), "permitted"),
    Attack("of 16 levels", claiming_text('"x":' + "[" * 15 + "]" * 15), "permitted"),
    Attack("of 15 KB", claiming(x="x" * 11_000), "permitted"),
    Attack("for the key in PEM", signed(), "permitted", "pem"),
    Attack("by Ed25519", eddsa_by(lambda s, m: s.honest.ed_key.sign(m)), "permitted", "ed"),
    Attack("for Django", for_django(), "permitted", "django"),
    Attack("as RFC 9068 has it", signed(typ="application/AT+JWT"), "permitted", "access"),
)
"""What the attacks are made from passes: none of them is refused for another reason than the one given."""
