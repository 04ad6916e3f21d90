"""The WebSockets of the application."""
