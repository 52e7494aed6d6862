"""Keys and certificates (EC P-256): an authority, and the server certificates that it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE_LIFE = timedelta(days=365)
"""Phones refuse certificates of more than 825 days."""
AUTHORITY_LIFE = timedelta(days=3650)
_CLOCKS_DIFFER = timedelta(days=1)
"""A board without a battery starts with a past date."""
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Signer:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + self.certificate_pem()

    def fingerprint(self) -> str:
        """SHA-256 of the certificate as browsers show it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def read_signer(content: bytes) -> Signer:
    """Read what `Signer.pem` wrote; certificates after the first are ignored.

    Raises:
        ValueError: it is something else.
    """
    try:
        key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content[content.index(b"-----BEGIN CERTIFICATE") :])
    except TypeError as error:
        raise ValueError("the key has a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the key is not that of the certificate")
    return Signer(key, certificate)


def make_authority(name: str, now: datetime) -> Signer:
    """A self-signed authority, for server certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(key, key, now, AUTHORITY_LIFE).subject_name(_name(name)).issuer_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Signer(key, builder.sign(key, hashes.SHA256()))


def make_certificate(authority: Signer, names: Sequence[str], now: datetime) -> Signer:
    """A server's certificate for host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(key, authority.key, now, CERTIFICATE_LIFE)
    builder = builder.subject_name(_name("lut-server")).issuer_name(authority.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
    return Signer(key, builder.sign(authority.key, hashes.SHA256()))


def is_certificate_for(certificate: x509.Certificate, authority: Signer, names: Sequence[str]) -> bool:
    """Whether the authority signed it and it has all the names."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return {_alternative(name) for name in names} <= set(found)


def _builder(
    key: ec.EllipticCurvePrivateKey, signing: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _CLOCKS_DIFFER).not_valid_after(now + life)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    return builder.add_extension(own, critical=False).add_extension(issuer, critical=False)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    names = "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only"
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **dict.fromkeys(names.split(), False),
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_NAME])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
