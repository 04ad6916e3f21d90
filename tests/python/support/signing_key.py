"""An RSA key that Django signs with, and whose public half the gateway is given."""

from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True)
class SigningKey:
    """A private key and what is published of it, both PEM."""

    private: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh one."""
        return cls(rsa.generate_private_key(65537, 2048))

    @cached_property
    def private_pem(self) -> str:
        """For Django alone."""
        form = serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    @cached_property
    def public_pem(self) -> str:
        """For everybody."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def environment(self) -> dict[str, str]:
        """What the settings of the project read."""
        return {"JWT_PRIVATE_KEY": self.private_pem, "JWT_PUBLIC_KEY": self.public_pem}
