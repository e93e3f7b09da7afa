"""`planes`: aerial pictures of aprons with twenty types of aircraft, drawn by a program."""
