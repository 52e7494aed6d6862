"""All devices at once: their health, what they do, what they lack, and how to ask for it."""
