"""Where a NaN or an infinity was born: the microscope, the flight recorder, and their findings."""
