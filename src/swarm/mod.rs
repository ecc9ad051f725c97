//! Who asks whom for what.
