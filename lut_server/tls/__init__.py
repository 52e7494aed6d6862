"""A certificate that the server makes itself (`serve --tls self-signed`)."""
