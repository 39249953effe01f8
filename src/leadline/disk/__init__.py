"""Files: written whole and tried beforehand, sealed with a checksum, read within bounds."""
