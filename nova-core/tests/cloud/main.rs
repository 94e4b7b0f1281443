//! The cloud as its users meet it, on reference parts.

mod chaos;
mod faults;
mod life;
mod world;
