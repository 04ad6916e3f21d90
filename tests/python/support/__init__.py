"""What the stories need: real processes, a certificate authority, tokens, clients and loads."""
