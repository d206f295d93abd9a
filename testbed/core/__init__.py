"""The protocol cores: told an event and the time, they answer with effects. No I/O, no clock, no dice of their own."""
