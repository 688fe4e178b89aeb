"""What screens are made of. The transcript, the composer, what surrounds each mode, and files have rooms here."""
