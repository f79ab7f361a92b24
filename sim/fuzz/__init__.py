"""What reads octets that others wrote, on octets that nobody would write."""
