//! Laws of this port.
