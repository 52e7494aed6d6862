"""The certificates that an HTTPS client trusts: public authorities, and those of a file."""

from __future__ import annotations

import ssl

from shared.errors import InvalidValue, UntrustedServer

CA_FILE_VARIABLE = "LUTNAS_CA_FILE"
_WRONG_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def trust_file(context: ssl.SSLContext, ca_file: str) -> ssl.SSLContext:
    """Make the context trust the certificates of a PEM file, too, and return it.

    Raises:
        InvalidValue: the file is missing or has no certificate.
    """
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate in PEM form"
        raise InvalidValue("ca-file", f"cannot use {ca_file}: {reason}") from error
    return context


def find_distrust(url: str, error: BaseException) -> UntrustedServer | None:
    """The error to raise if the cause is an untrusted certificate; else None."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    advice = (
        "use a name that it has, or start the server with --tls-names NAME"
        if cause.verify_code in _WRONG_NAME
        else f"if the server made it itself, set {CA_FILE_VARIABLE} or --ca-file to a copy of the ca.pem that"
        " `lut-server serve` names"
    )
    return UntrustedServer(f"the certificate of {url} is not trusted ({cause.verify_message}); {advice}")
