"""What is DSA-110: its stations, beam, raw files and meridian phase centre, and a simulator of them."""
