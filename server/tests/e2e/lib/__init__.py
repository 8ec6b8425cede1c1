"""What the tests share: processes, real clients, and waiting without sleeping for luck."""
