"""All devices at once: who is alive, what each is doing, how it is, what it lacks, and how to ask for that."""
