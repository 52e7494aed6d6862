"""Pairing: a phone gets a token of its own for a short-lived one-time code, by a link, a QR code or by hand."""
