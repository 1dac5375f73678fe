"""Who somebody is: tokens."""
