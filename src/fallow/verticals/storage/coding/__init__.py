"""From sealed bytes to pieces, and back: Reed-Solomon by ISA-L."""
