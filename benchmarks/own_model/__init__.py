"""A user's own model as the space. The models are files as a user has them, with their choices marked."""
