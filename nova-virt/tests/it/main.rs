//! Everything that crosses a file, a clock or a port.

mod cache;
mod directories;
mod honesty;
mod hostile;
mod inspect;
mod killed;
mod laws;
mod model;
mod volume_laws;
mod world;
