"""Who calls, and what that caller may do. Nothing here knows what is asked for."""
