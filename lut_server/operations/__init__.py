"""What whoever runs the server does beside serving: the queue, copies, old values, older schemas."""
