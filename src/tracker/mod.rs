//! The tracker protocol, both ends.
