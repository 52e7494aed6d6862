"""Pairing: a phone exchanges a short-lived code (link, QR code or typed) for a token of its own."""
